//! Zones: what was made by the API, and what may be made of it: whose names are whose, and which records agree. Pure.
use crate::record::RecordData;
use crate::zone_name::{self, parse_data};
use cloud_api::{Caller, Ownership, Refusal};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// How much one owner may have, and all together: it is one object of the host cluster's, which are of a megabyte.
const MOST_RECORDS_OF_OWNER: usize = 1_000;
const MOST_ZONES_OF_OWNER: usize = 50;
const MOST_RECORDS: usize = 5_000;
const MOST_LABELS: usize = 16;
const MOST_LABEL_BYTES: usize = 128;
const DEFAULT_TTL: u32 = 30;
/// RFC 2181 has 31 bits; a week is more than anybody keeps.
const LONGEST_TTL: u32 = 7 * 24 * 3600;

/// Zones by name, reverse zones by the addresses they are of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Zones {
    #[serde(default)]
    pub zones: BTreeMap<String, KeptZone>,
    #[serde(default)]
    pub reverse: BTreeMap<IpNet, KeptReverse>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptZone {
    pub owner: Ownership,
    pub serial: u32,
    /// By id.
    pub records: BTreeMap<String, KeptRecord>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptRecord {
    /// Within the zone: `www`, `*.www`; empty for the zone's own name.
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub value: String,
    pub ttl: u32,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptReverse {
    pub owner: Ownership,
    pub pattern: String,
    pub ttl: u32,
}

/// What the operator lets an organisation or project make zones of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delegation {
    pub what: Delegated,
    pub owner: Ownership,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delegated {
    /// The name and all below it.
    Name(String),
    Addresses(IpNet),
}

/// Who may make which zones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ZoneRules {
    pub delegations: Vec<Delegation>,
    /// The clusters' domain, whose records are Services'; nobody makes a zone of it, above or below it.
    pub cluster_domain: Option<String>,
}

impl Delegation {
    /// Of `shop.example.org=org-1/proj-1`, `198.51.100.0/24=org-1`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (what, owner) = text.split_once('=').ok_or("it is not NAME=ORG[/PROJECT] or CIDR=ORG[/PROJECT]")?;
        let what = match what.parse::<IpNet>() {
            Ok(network) => Delegated::Addresses(network.trunc()),
            Err(_) => Delegated::Name(zone_name::zone(what)?),
        };
        let (org_id, project_id) = owner.split_once('/').unwrap_or((owner, ""));
        if org_id.is_empty() {
            return Err("it names no organisation".into());
        }
        Ok(Self { what, owner: Ownership { org_id: org_id.into(), project_id: project_id.into() } })
    }

    /// Of a whole organisation's, its administrators and every project make zones; of a project's, that one.
    fn is_for(&self, caller: &Caller) -> bool {
        let organisation = self.owner.project_id.is_empty() && !caller.org_id.is_empty() && caller.org_id == self.owner.org_id;
        organisation || self.owner.is_usable_by(caller)
    }
}

impl ZoneRules {
    /// Whether `caller` may make a zone of `name`: it has the closest zone above, or the name was delegated to it.
    fn check_name(&self, zones: &Zones, caller: &Caller, name: &str) -> Result<(), Refusal> {
        if let Some(domain) = &self.cluster_domain
            && (zone_name::is_inside(name, domain) || zone_name::is_inside(domain, name))
        {
            return Err(Refusal::InUse(format!("zone {name:?} can't be made: what is in {domain:?} follows from Services")));
        }
        let covers = |delegation: &Delegation| matches!(&delegation.what, Delegated::Name(top) if zone_name::is_inside(name, top));
        let delegated = || self.delegations.iter().any(|delegation| covers(delegation) && delegation.is_for(caller));
        let allowed = match zone_name::ancestors(name).find_map(|above| zones.zones.get(above)) {
            Some(above) => above.owner.is_usable_by(caller),
            None => caller.platform || delegated(),
        };
        if allowed { Ok(()) } else { Err(Refusal::Denied(format!("zone {name:?} is not the caller's to make"))) }
    }

    fn check_addresses(&self, caller: &Caller, network: &IpNet) -> Result<(), Refusal> {
        let delegated = |delegation: &Delegation| matches!(&delegation.what, Delegated::Addresses(of) if of.contains(network)) && delegation.is_for(caller);
        if caller.platform || self.delegations.iter().any(delegated) {
            return Ok(());
        }
        Err(Refusal::Denied(format!("the reverse zone of {network} is not the caller's to make")))
    }
}

/// What a record is to say.
#[derive(Clone, Debug, Default)]
pub struct RecordWish {
    pub zone: String,
    pub name: String,
    pub kind: String,
    pub value: String,
    pub ttl: i32,
    pub labels: BTreeMap<String, String>,
}

impl Zones {
    pub fn create_zone(&mut self, rules: &ZoneRules, caller: &Caller, name: &str, owner: Ownership) -> Result<String, Refusal> {
        let name = zone_name::zone(name).map_err(|why| Refusal::Invalid(format!("zone {name:?}: {why}")))?;
        if let Some(there) = self.zones.get(&name) {
            // To others it is only not theirs.
            let refusal = if there.owner.is_usable_by(caller) { Refusal::Exists } else { Refusal::Denied };
            return Err(refusal(format!("zone {name:?} can't be made: it is there already")));
        }
        rules.check_name(self, caller, &name)?;
        if self.zones.values().filter(|zone| zone.owner == owner).count() >= MOST_ZONES_OF_OWNER {
            return Err(Refusal::Exhausted(format!("there are {MOST_ZONES_OF_OWNER} zones of this project already")));
        }
        // What a zone above says below this name would no longer be answered.
        let hidden = zone_name::ancestors(&name).find_map(|above| {
            let zone = self.zones.get(above)?;
            zone.records.values().find(|record| zone_name::is_inside(&zone_name::absolute(&record.name, above), &name))
        });
        if let Some(record) = hidden {
            return Err(Refusal::InUse(format!("zone {name:?} can't be made: the zone above has record {:?} in it", record.name)));
        }
        self.zones.insert(name.clone(), KeptZone { owner, serial: 1, records: BTreeMap::new() });
        Ok(name)
    }

    pub fn delete_zone(&mut self, caller: &Caller, name: &str) -> Result<(), Refusal> {
        let (name, _) = self.zone(caller, name)?;
        self.zones.remove(&name);
        Ok(())
    }

    /// A zone of the caller's; others' are not there.
    pub fn zone(&self, caller: &Caller, name: &str) -> Result<(String, &KeptZone), Refusal> {
        let lower = name.trim_end_matches('.').to_ascii_lowercase();
        match self.zones.get(&lower) {
            Some(zone) if zone.owner.is_usable_by(caller) => Ok((lower, zone)),
            _ => Err(Refusal::Missing(format!("there is no zone {name:?}"))),
        }
    }

    pub fn create_record(&mut self, caller: &Caller, id: &str, wish: RecordWish) -> Result<(), Refusal> {
        let (zone_of, zone) = self.zone(caller, &wish.zone)?;
        let name = zone_name::record(&wish.name, &zone_of).map_err(|why| Refusal::Invalid(format!("name {:?}: {why}", wish.name)))?;
        let record = kept(name, &wish.kind, &wish.value, wish.ttl, wish.labels)?;
        let owner = zone.owner.clone();
        let of_owner: usize = self.zones.values().filter(|zone| zone.owner == owner).map(|zone| zone.records.len()).sum();
        let all: usize = self.zones.values().map(|zone| zone.records.len()).sum();
        if of_owner >= MOST_RECORDS_OF_OWNER || all >= MOST_RECORDS {
            return Err(Refusal::Exhausted(format!("there are {} records already", of_owner.min(MOST_RECORDS_OF_OWNER))));
        }
        let at = zone_name::absolute(&record.name, &zone_of);
        if let Some(below) = zone_name::ancestors_within(&at, &zone_of).find(|name| self.zones.contains_key(*name)) {
            return Err(Refusal::InUse(format!("{at:?} is of the zone {below:?}")));
        }
        check_beside(&zone_of, zone, None, &record)?;
        let zone = self.zones.get_mut(&zone_of).expect("it was just found");
        zone.records.insert(id.to_owned(), record);
        zone.serial = zone.serial.wrapping_add(1).max(1);
        Ok(())
    }

    pub fn update_record(&mut self, caller: &Caller, id: &str, value: &str, ttl: i32, labels: BTreeMap<String, String>) -> Result<(), Refusal> {
        let (zone_of, before) = self.record(caller, id)?;
        let record = kept(before.name.clone(), &before.kind, value, ttl, labels)?;
        check_beside(&zone_of, &self.zones[&zone_of], Some(id), &record)?;
        let zone = self.zones.get_mut(&zone_of).expect("it was just found");
        if zone.records.insert(id.to_owned(), record.clone()).as_ref() != Some(&record) {
            zone.serial = zone.serial.wrapping_add(1).max(1);
        }
        Ok(())
    }

    pub fn delete_record(&mut self, caller: &Caller, id: &str) -> Result<(), Refusal> {
        let (zone_of, _) = self.record(caller, id)?;
        let zone = self.zones.get_mut(&zone_of).expect("it was just found");
        zone.records.remove(id);
        zone.serial = zone.serial.wrapping_add(1).max(1);
        Ok(())
    }

    /// A record of the caller's, and its zone's name.
    pub fn record(&self, caller: &Caller, id: &str) -> Result<(String, &KeptRecord), Refusal> {
        let own = self.zones.iter().filter(|(_, zone)| zone.owner.is_usable_by(caller));
        let found = own.filter_map(|(name, zone)| Some((name.clone(), zone.records.get(id)?))).next();
        found.ok_or_else(|| Refusal::Missing(format!("there is no record {id:?}")))
    }

    pub fn create_reverse_zone(&mut self, rules: &ZoneRules, caller: &Caller, cidr: &str, reverse: KeptReverse) -> Result<IpNet, Refusal> {
        let network: IpNet = cidr.parse().map_err(|_| Refusal::Invalid(format!("{cidr:?} is no CIDR")))?;
        if network.trunc() != network {
            return Err(Refusal::Invalid(format!("{cidr:?} has bits beyond its prefix; {} has not", network.trunc())));
        }
        zone_name::of_pattern(&reverse.pattern, network.addr()).map_err(|why| Refusal::Invalid(format!("pattern {:?}: {why}", reverse.pattern)))?;
        rules.check_addresses(caller, &network)?;
        if let Some(there) = self.reverse.get(&network) {
            let refusal = if there.owner.is_usable_by(caller) { Refusal::Exists } else { Refusal::Denied };
            return Err(refusal(format!("the reverse zone of {network} is there already")));
        }
        if self.reverse.values().filter(|zone| zone.owner == reverse.owner).count() >= MOST_ZONES_OF_OWNER {
            return Err(Refusal::Exhausted(format!("there are {MOST_ZONES_OF_OWNER} reverse zones of this project already")));
        }
        self.reverse.insert(network, reverse);
        Ok(network)
    }

    pub fn delete_reverse_zone(&mut self, caller: &Caller, cidr: &str) -> Result<(), Refusal> {
        let network = cidr.parse().ok().filter(|network| self.reverse.get(network).is_some_and(|zone| zone.owner.is_usable_by(caller)));
        let network = network.ok_or_else(|| Refusal::Missing(format!("there is no reverse zone of {cidr:?}")))?;
        self.reverse.remove(&network);
        Ok(())
    }

    /// The closest reverse zone of an address.
    pub fn reverse_of(&self, address: IpAddr) -> Option<&KeptReverse> {
        self.reverse.iter().filter(|(network, _)| network.contains(&address)).max_by_key(|(network, _)| network.prefix_len()).map(|(_, zone)| zone)
    }
}

impl KeptRecord {
    /// What it says; it was checked when it was taken.
    pub fn data(&self) -> Option<RecordData> {
        parse_data(&self.kind, &self.value).ok()
    }
}

/// A time to live as the API takes it.
pub fn ttl(ttl: i32) -> Result<u32, Refusal> {
    match u32::try_from(ttl) {
        Ok(0) => Ok(DEFAULT_TTL),
        Ok(ttl) if ttl <= LONGEST_TTL => Ok(ttl),
        _ => Err(Refusal::Invalid(format!("ttl {ttl} is not between 1 and {LONGEST_TTL}"))),
    }
}

fn kept(name: String, kind: &str, value: &str, wanted_ttl: i32, labels: BTreeMap<String, String>) -> Result<KeptRecord, Refusal> {
    let data = parse_data(kind, value).map_err(|why| Refusal::Invalid(format!("{kind} {value:?}: {why}")))?;
    if labels.len() > MOST_LABELS || labels.iter().any(|(key, value)| key.is_empty() || key.len() > MOST_LABEL_BYTES || value.len() > MOST_LABEL_BYTES) {
        return Err(Refusal::Invalid(format!("a record has at most {MOST_LABELS} labels of at most {MOST_LABEL_BYTES} bytes")));
    }
    let value = if let RecordData::Txt(text) = &data { text.to_string() } else { data.to_string() };
    Ok(KeptRecord { name, kind: kind.to_owned(), value, ttl: ttl(wanted_ttl)?, labels })
}

/// Whether a record agrees with the others at its name: an alias is alone there, and nothing is said twice (RFC 1034
/// 3.6.2, RFC 2181 5).
fn check_beside(zone_of: &str, zone: &KeptZone, id: Option<&str>, record: &KeptRecord) -> Result<(), Refusal> {
    if record.kind == "CNAME" && record.name.is_empty() {
        return Err(Refusal::Invalid(format!("{zone_of:?} is a zone's own name, which can't be an alias")));
    }
    for (_, other) in zone.records.iter().filter(|(of, other)| Some(of.as_str()) != id && other.name == record.name) {
        let at = zone_name::absolute(&record.name, zone_of);
        if other.kind == record.kind && other.value == record.value {
            return Err(Refusal::Exists(format!("{at:?} has this record already")));
        }
        if other.kind == "CNAME" || record.kind == "CNAME" {
            return Err(Refusal::InUse(format!("{at:?} can't be an alias and have another record")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(org: &str, project: &str) -> Caller {
        Caller { org_id: org.into(), project_id: project.into(), ..Caller::default() }
    }
    fn owner(org: &str, project: &str) -> Ownership {
        Ownership { org_id: org.into(), project_id: project.into() }
    }
    fn rules() -> ZoneRules {
        let delegations = ["shop.example.org=org-1/proj-1", "org2.example.org=org-2", "198.51.100.0/24=org-1/proj-1"];
        ZoneRules { delegations: delegations.map(|text| Delegation::parse(text).unwrap()).into(), cluster_domain: Some("cluster.local".into()) }
    }
    fn wish(name: &str, kind: &str, value: &str) -> RecordWish {
        RecordWish { zone: "shop.example.org".into(), name: name.into(), kind: kind.into(), value: value.into(), ..RecordWish::default() }
    }
    fn with_shop() -> Zones {
        let mut zones = Zones::default();
        zones.create_zone(&rules(), &caller("org-1", "proj-1"), "Shop.Example.Org.", owner("org-1", "proj-1")).unwrap();
        zones
    }

    #[test]
    fn zones_are_made_by_those_the_name_was_given_to() {
        let mut zones = with_shop();
        let mut make = |org: &str, project: &str, name: &str| zones.create_zone(&rules(), &caller(org, project), name, owner(org, project)).map(drop);
        assert!(matches!(make("org-1", "proj-2", "x.shop.example.org"), Err(Refusal::Denied(_))), "the zone above is another's");
        assert!(matches!(make("org-1", "proj-1", "shop.example.org"), Err(Refusal::Exists(_))));
        assert!(matches!(make("org-2", "proj-3", "shop.example.org"), Err(Refusal::Denied(_))));
        assert!(matches!(make("org-1", "proj-1", "github.com"), Err(Refusal::Denied(_))));
        for cluster in ["cluster.local", "svc.cluster.local", "local"] {
            assert!(make("org-1", "proj-1", cluster).is_err(), "{cluster}");
        }
        make("org-1", "proj-1", "x.shop.example.org").unwrap();
        make("org-2", "proj-3", "proj-3.org2.example.org").unwrap();
        assert!(matches!(make("org-2", "proj-4", "www.proj-3.org2.example.org"), Err(Refusal::Denied(_))));
        let platform = Caller::component("test");
        assert!(matches!(zones.create_zone(&rules(), &platform, "a.cluster.local", Ownership::default()), Err(Refusal::InUse(_))));
        zones.create_zone(&rules(), &platform, "example.com", owner("org-9", "proj-9")).unwrap();
        assert!(matches!(zones.delete_zone(&caller("org-1", "proj-1"), "example.com"), Err(Refusal::Missing(_))));
        zones.delete_zone(&caller("org-9", "proj-9"), "example.com").unwrap();
    }

    #[test]
    fn records_agree_with_each_other() {
        let (mut zones, caller) = (with_shop(), caller("org-1", "proj-1"));
        zones.create_record(&caller, "1", wish("www", "A", "192.0.2.1")).unwrap();
        zones.create_record(&caller, "2", wish("www", "A", "192.0.2.2")).unwrap();
        zones.create_record(&caller, "3", wish("shop", "CNAME", "www.shop.example.org.")).unwrap();
        let exists = zones.create_record(&caller, "4", wish("WWW", "A", "192.0.2.1"));
        assert!(matches!(exists, Err(Refusal::Exists(_))), "{exists:?}");
        for wrong in [wish("www", "CNAME", "a.example"), wish("shop", "TXT", "x")] {
            let refused = zones.create_record(&caller, "4", wrong);
            assert!(matches!(refused, Err(Refusal::InUse(_))), "{refused:?}");
        }
        for wrong in [
            wish("", "CNAME", "a.example"),
            wish("www", "A", "fd00::1"),
            wish("www", "SRV", "0 50 www"),
            wish("a..b", "A", "192.0.2.1"),
            wish("a.*", "A", "192.0.2.1"),
            wish("www", "NS", "ns.example"),
            wish("www", "TXT", &"x".repeat(256)),
            RecordWish { ttl: -1, ..wish("t", "A", "192.0.2.1") },
        ] {
            let refused = zones.create_record(&caller, "4", wrong.clone());
            assert!(matches!(refused, Err(Refusal::Invalid(_))), "{wrong:?}: {refused:?}");
        }
        let serial = zones.zones["shop.example.org"].serial;
        zones.update_record(&caller, "1", "192.0.2.9", 0, BTreeMap::new()).unwrap();
        assert!(zones.zones["shop.example.org"].serial > serial);
        assert!(matches!(zones.update_record(&caller, "2", "192.0.2.9", 0, BTreeMap::new()), Err(Refusal::Exists(_))));
        let stranger = super::tests::caller("org-1", "proj-2");
        assert!(matches!(zones.update_record(&stranger, "1", "192.0.2.7", 0, BTreeMap::new()), Err(Refusal::Missing(_))));
        assert!(matches!(zones.delete_record(&stranger, "1"), Err(Refusal::Missing(_))));
        zones.create_record(&caller, "5", wish("a.b", "A", "192.0.2.5")).unwrap();
        let hides = zones.create_zone(&rules(), &caller, "b.shop.example.org", owner("org-1", "proj-1"));
        assert!(matches!(hides, Err(Refusal::InUse(_))), "{hides:?}");
        let again: Zones = serde_json::from_str(&serde_json::to_string(&zones).unwrap()).unwrap();
        assert_eq!(again, zones);
    }

    #[test]
    fn reverse_zones_are_of_addresses_given() {
        let (mut zones, caller) = (Zones::default(), caller("org-1", "proj-1"));
        let reverse = |pattern: &str| KeptReverse { owner: owner("org-1", "proj-1"), pattern: pattern.into(), ttl: 30 };
        let good = "{1}-{2}-{3}-{4}.hosts.example.org";
        for (cidr, pattern) in [("198.51.100.1/24", good), ("x", good), ("198.51.100.0/24", "{5}.example.org"), ("198.51.100.0/24", "-{ip}.example.org")] {
            assert!(matches!(zones.create_reverse_zone(&rules(), &caller, cidr, reverse(pattern)), Err(Refusal::Invalid(_))), "{cidr} {pattern}");
        }
        assert!(matches!(zones.create_reverse_zone(&rules(), &caller, "198.51.0.0/16", reverse(good)), Err(Refusal::Denied(_))));
        zones.create_reverse_zone(&rules(), &caller, "198.51.100.0/24", reverse(good)).unwrap();
        zones.create_reverse_zone(&rules(), &caller, "198.51.100.128/25", reverse("{ip}.upper.example.org")).unwrap();
        let pattern = |address: &str| zones.reverse_of(address.parse().unwrap()).map(|zone| zone.pattern.as_str());
        assert_eq!([pattern("198.51.100.1"), pattern("198.51.100.200"), pattern("192.0.2.1")], [Some(good), Some("{ip}.upper.example.org"), None]);
        zones.delete_reverse_zone(&caller, "198.51.100.0/24").unwrap();
        assert!(zones.delete_reverse_zone(&super::tests::caller("org-2", ""), "198.51.100.128/25").is_err());
    }
}
