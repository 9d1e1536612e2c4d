//! HostedZones: the zones that were made by the API, in the form that questions are answered from. Pure.
use crate::record::RecordData;
use crate::zone_name::{absolute, ancestors, ancestors_within, of_pattern};
use crate::zones::Zones;
use std::collections::HashMap;
use std::net::IpAddr;

/// What a name says: each of its data with how many seconds it may be kept.
pub type Data = Vec<(RecordData, u32)>;

#[derive(Debug, Default)]
pub struct HostedZones {
    by_name: HashMap<String, HostedZone>,
    kept: Zones,
}

#[derive(Debug)]
pub struct HostedZone {
    pub name: String,
    pub serial: u32,
    /// By whole name. One without data exists by those below it (RFC 8020).
    nodes: HashMap<String, Data>,
}

impl HostedZones {
    pub fn new(kept: Zones) -> Self {
        let by_name = kept.zones.iter().map(|(name, zone)| {
            let mut nodes: HashMap<String, Data> = HashMap::from([(name.clone(), Data::new())]);
            for record in zone.records.values() {
                let (Some(data), at) = (record.data(), absolute(&record.name, name)) else { continue };
                for above in ancestors_within(&at, name).skip(1) {
                    nodes.entry(above.to_owned()).or_default();
                }
                nodes.entry(at).or_default().push((data, record.ttl));
            }
            nodes.values_mut().for_each(level);
            (name.clone(), HostedZone { name: name.clone(), serial: zone.serial, nodes })
        });
        Self { by_name: by_name.collect(), kept }
    }

    /// The zone a name is in: the closest above it.
    pub fn zone_of(&self, name: &str) -> Option<&HostedZone> {
        if self.by_name.is_empty() {
            return None;
        }
        std::iter::once(name).chain(ancestors(name)).find_map(|above| self.by_name.get(above))
    }

    /// What a reverse zone says of an address.
    pub fn reverse(&self, address: IpAddr) -> Option<(RecordData, u32)> {
        let zone = self.kept.reverse_of(address)?;
        let name = of_pattern(&zone.pattern, address).ok()?;
        Some((RecordData::Ptr(name.into()), zone.ttl))
    }
}

impl HostedZone {
    /// What a name in this zone says; `None`: there is no such name. A wildcard answers for names below which and at which
    /// there is nothing, if the closest one that exists is what it is of (RFC 4592).
    pub fn find(&self, name: &str) -> Option<&Data> {
        self.nodes.get(name).or_else(|| {
            let closest = ancestors(name).find(|above| self.nodes.contains_key(*above))?;
            self.nodes.get(&format!("*.{closest}"))
        })
    }
}

/// Records of one type at one name live equally long (RFC 2181 5.2): as long as the shortest of them.
fn level(data: &mut Data) {
    let shortest: Vec<u32> =
        data.iter().map(|(one, ttl)| data.iter().filter(|(other, _)| other.kind() == one.kind()).map(|(_, ttl)| *ttl).min().unwrap_or(*ttl)).collect();
    data.iter_mut().zip(shortest).for_each(|((_, ttl), shortest)| *ttl = shortest);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosted() -> HostedZones {
        let record = |name: &str, kind: &str, value: &str, ttl: u32| serde_json::json!({"name": name, "type": kind, "value": value, "ttl": ttl});
        let owner = serde_json::json!({"org_id": "org-1", "project_id": "proj-1"});
        let kept = serde_json::json!({
            "zones": {
                "example.org": {"owner": owner, "serial": 3, "records": {
                    "1": record("www", "A", "192.0.2.1", 60), "2": record("www", "A", "192.0.2.2", 30), "3": record("*", "A", "192.0.2.9", 30),
                    "4": record("a.b", "TXT", "text", 30),
                }},
                "shop.example.org": {"owner": owner, "serial": 1, "records": {"5": record("", "A", "192.0.2.5", 30)}},
            },
            "reverse": {"192.0.2.0/24": {"owner": owner, "pattern": "h{4}.example.org", "ttl": 30}},
        });
        HostedZones::new(serde_json::from_value(kept).unwrap())
    }

    #[test]
    fn names_are_found_in_the_closest_zone() {
        let hosted = hosted();
        let find = |name: &str| {
            let zone = hosted.zone_of(name)?;
            Some((zone.name.as_str(), zone.find(name).map(|data| data.iter().map(|(data, ttl)| format!("{data} {ttl}")).collect::<Vec<_>>())))
        };
        let found = |zone, data: &[&str]| Some((zone, Some(data.iter().map(ToString::to_string).collect())));
        assert_eq!(find("www.example.org"), found("example.org", &["192.0.2.1 30", "192.0.2.2 30"]));
        assert_eq!(find("x.y.example.org"), found("example.org", &["192.0.2.9 30"]));
        assert_eq!(find("b.example.org"), found("example.org", &[]), "it exists by what is below it");
        assert_eq!(find("x.b.example.org"), Some(("example.org", None)), "the wildcard is of another name");
        assert_eq!(find("x.www.example.org"), Some(("example.org", None)));
        assert_eq!(find("shop.example.org"), found("shop.example.org", &["192.0.2.5 30"]));
        assert_eq!(find("x.shop.example.org"), Some(("shop.example.org", None)));
        assert_eq!(find("org"), None);
        let reverse = |address: &str| hosted.reverse(address.parse().unwrap()).map(|(data, _)| data.to_string());
        assert_eq!((reverse("192.0.2.77").as_deref(), reverse("198.51.100.1")), (Some("h77.example.org"), None));
    }
}
