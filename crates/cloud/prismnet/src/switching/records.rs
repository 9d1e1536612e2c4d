//! Records: the switches, ports and ACLs that callers have made, and what is right to make next. Pure.
use super::match_expression::{self, Names, address};
use crate::plan::host_interface;
use cloud_api::{Caller, Ownership, Refusal};
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

/// So much a project may have, so that none takes all.
const MOST_SWITCHES: usize = 32;
const MOST_PORTS: usize = 1_000;
const MOST_ACLS: usize = 1_000;
const MOST_SETS: usize = 100;
const MOST_ADDRESSES: usize = 1_000;
/// The name of every port's interface in its network namespace.
pub const INTERFACE: &str = "eth0";

/// Everything, as it is kept on disk.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Records {
    /// Projects with switches by the number that packets travel in the name of. INVARIANT: a number is one project's.
    pub tenants: BTreeMap<u16, Ownership>,
    pub switches: BTreeMap<String, SwitchRecord>,
    pub ports: BTreeMap<String, PortRecord>,
    pub acls: BTreeMap<String, AclRecord>,
    pub address_sets: BTreeMap<String, AddressSetRecord>,
    /// Node ends of ports that were taken away, and may still be in the kernel.
    pub leaving: BTreeSet<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SwitchRecord {
    pub namespace: String,
    pub subnet: Ipv4Net,
    pub tenant: u16,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PortRecord {
    pub switch: String,
    pub pod: String,
    pub container: String,
    pub address: Ipv4Addr,
    /// Whether it has an interface, or only its address.
    pub attached: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AclRecord {
    pub switch: String,
    pub direction: AclDirection,
    pub priority: u16,
    #[serde(rename = "match")]
    pub expression: String,
    pub action: AclAction,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AclDirection {
    FromLport,
    ToLport,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AclAction {
    Allow,
    AllowRelated,
    Drop,
    Reject,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AddressSetRecord {
    pub owner: Ownership,
    pub name: String,
    pub addresses: BTreeSet<Ipv4Net>,
}

/// The addresses switches are given: networks of `prefix` within `range`, but for the first, where the gateway is.
#[derive(Clone, Copy, Debug)]
pub struct Supply {
    pub range: Ipv4Net,
    pub prefix: u8,
}

impl PortRecord {
    /// `<pod>-<container id>`.
    pub fn name(&self) -> String {
        format!("{}-{}", self.pod, self.container)
    }
}

impl Records {
    pub fn owner(&self, switch: &SwitchRecord) -> Ownership {
        self.tenants.get(&switch.tenant).cloned().unwrap_or_default()
    }

    /// The caller's switch for a namespace; its own project's before others that it administers. What is others' is not there.
    pub fn switch(&self, caller: &Caller, namespace: &str) -> Result<(&str, &SwitchRecord), Refusal> {
        let named = self.switches.iter().filter(|(_, switch)| switch.namespace == namespace && self.owner(switch).is_usable_by(caller));
        let found: Vec<_> = named.map(|(id, switch)| (id.as_str(), switch)).collect();
        let own = found.iter().find(|(_, switch)| self.owner(switch).project_id == caller.project_id);
        match (own, &found[..]) {
            (Some(one), _) | (None, [one]) => Ok(*one),
            (None, []) => Err(Refusal::Missing(format!("there is no logical switch \"k8s-{namespace}\""))),
            (None, _) => Err(Refusal::Invalid(format!("several projects have a logical switch \"k8s-{namespace}\"; ask with a token of one of them"))),
        }
    }

    pub fn create_switch(&mut self, supply: Supply, owner: &Ownership, id: &str, namespace: &str, subnet: &str) -> Result<(), Refusal> {
        if owner.org_id.is_empty() || owner.project_id.is_empty() {
            return Err(Refusal::Invalid("a logical switch is a project's: name one, or ask with its token".into()));
        }
        check_name("namespace", namespace, 63, b"-")?;
        let own: Vec<&SwitchRecord> = self.switches.values().filter(|switch| self.owner(switch) == *owner).collect();
        if own.iter().any(|switch| switch.namespace == namespace) {
            return Err(Refusal::Exists(format!("there is a logical switch \"k8s-{namespace}\" already")));
        }
        full("logical switches", own.len(), MOST_SWITCHES)?;
        let subnet = if subnet.is_empty() { self.free_subnet(supply)? } else { self.wanted_subnet(supply, subnet)? };
        let known = self.tenants.iter().find(|(_, tenant)| *tenant == owner).map(|(number, _)| *number);
        let tenant = match known {
            Some(number) => number,
            None => {
                (1..=u16::MAX).find(|number| !self.tenants.contains_key(number)).ok_or_else(|| Refusal::Exhausted("too many projects have switches".into()))?
            }
        };
        self.tenants.insert(tenant, owner.clone());
        self.switches.insert(id.to_owned(), SwitchRecord { namespace: namespace.to_owned(), subnet, tenant });
        Ok(())
    }

    pub fn delete_switch(&mut self, caller: &Caller, namespace: &str) -> Result<(), Refusal> {
        let (id, switch) = self.switch(caller, namespace)?;
        let (id, tenant) = (id.to_owned(), switch.tenant);
        if let Some(port) = self.ports.values().find(|port| port.switch == id) {
            return Err(Refusal::InUse(format!("port {:?} has an address of the switch", port.name())));
        }
        self.acls.retain(|_, acl| acl.switch != id);
        self.switches.remove(&id);
        if self.switches.values().all(|switch| switch.tenant != tenant) {
            self.tenants.remove(&tenant);
        }
        Ok(())
    }

    /// Gives a container an address, or the one that it has; gives the port's id.
    pub fn allocate(&mut self, caller: &Caller, id: &str, namespace: &str, pod: &str, container: &str) -> Result<String, Refusal> {
        check_name("pod_name", pod, 253, b"-.")?;
        let letters = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        if container.is_empty() || container.len() > 128 || !container.bytes().all(letters) {
            return Err(Refusal::Invalid(format!("container_id {container:?} is no container's id")));
        }
        let (switch_id, switch) = self.switch(caller, namespace)?;
        let of_switch = || self.ports.iter().filter(|(_, port)| port.switch == switch_id);
        if let Some((id, port)) = of_switch().find(|(_, port)| port.container == container) {
            if port.pod != pod {
                return Err(Refusal::Exists(format!("container {container:?} is pod {:?}'s", port.pod)));
            }
            return Ok(id.clone());
        }
        let of_tenant = self.ports.values().filter(|port| self.switches.get(&port.switch).is_some_and(|other| other.tenant == switch.tenant));
        full("ports", of_tenant.count(), MOST_PORTS)?;
        let taken: BTreeSet<Ipv4Addr> = of_switch().map(|(_, port)| port.address).collect();
        // The first of a network is what people take for its gateway.
        let free = switch.subnet.hosts().skip(1).find(|address| !taken.contains(address));
        let address = free.ok_or_else(|| Refusal::Exhausted(format!("no address is free in {}", switch.subnet)))?;
        let port = PortRecord { switch: switch_id.to_owned(), pod: pod.to_owned(), container: container.to_owned(), address, attached: false };
        self.ports.insert(id.to_owned(), port);
        Ok(id.to_owned())
    }

    pub fn attach(&mut self, id: &str) {
        if let Some(port) = self.ports.get_mut(id) {
            port.attached = true;
        }
    }

    /// Takes a container's port away; `release` its address too. None there is fine.
    pub fn detach(&mut self, caller: &Caller, namespace: &str, container: &str, release: bool) -> Result<(), Refusal> {
        let (switch, _) = self.switch(caller, namespace)?;
        let found = self.ports.iter().find(|(_, port)| port.switch == switch && port.container == container).map(|(id, _)| id.clone());
        let Some(id) = found else { return Ok(()) };
        if let Some(port) = self.ports.get_mut(&id)
            && std::mem::take(&mut port.attached)
        {
            self.leaving.insert(host_interface(&id, INTERFACE));
        }
        if release {
            self.ports.remove(&id);
        }
        Ok(())
    }

    pub fn create_acl(&mut self, id: &str, acl: AclRecord) -> Result<(), Refusal> {
        full("ACLs", self.acls.values().filter(|other| other.switch == acl.switch).count(), MOST_ACLS)?;
        if acl.priority > 32767 {
            return Err(Refusal::Invalid("priority is not between 0 and 32767".into()));
        }
        match_expression::rule(&acl.expression, &OfSwitch { records: self, switch: &acl.switch }).map_err(|why| Refusal::Invalid(format!("match: {why}")))?;
        self.acls.insert(id.to_owned(), acl);
        Ok(())
    }

    pub fn delete_acl(&mut self, caller: &Caller, id: &str) -> Result<(), Refusal> {
        let switch = self.acls.get(id).and_then(|acl| self.switches.get(&acl.switch));
        if !switch.is_some_and(|switch| self.owner(switch).is_usable_by(caller)) {
            return Err(Refusal::Missing(format!("there is no ACL {id:?}")));
        }
        self.acls.remove(id);
        Ok(())
    }

    /// The id of a project's address set.
    pub fn address_set(&self, owner: &Ownership, name: &str) -> Option<&str> {
        self.address_sets.iter().find(|(_, set)| set.owner == *owner && set.name == name).map(|(id, _)| id.as_str())
    }

    pub fn set_addresses(&mut self, owner: &Ownership, id: &str, name: &str, addresses: &[String]) -> Result<(), Refusal> {
        let letters = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        if name.is_empty() || name.len() > 63 || !name.bytes().all(letters) {
            return Err(Refusal::Invalid(format!("{name:?} is no name of an address set: 1 to 63 letters, digits, and `_`, `.` or `-`")));
        }
        if owner.project_id.is_empty() {
            return Err(Refusal::Invalid("an address set is a project's: ask with its token".into()));
        }
        full("addresses in a set", addresses.len().saturating_sub(1), MOST_ADDRESSES)?;
        let addresses = addresses.iter().map(|text| address(text)).collect::<Result<_, _>>().map_err(Refusal::Invalid)?;
        let known = self.address_set(owner, name).map(str::to_owned);
        if known.is_none() {
            full("address sets", self.address_sets.values().filter(|set| set.owner == *owner).count(), MOST_SETS)?;
        }
        let record = AddressSetRecord { owner: owner.clone(), name: name.to_owned(), addresses };
        self.address_sets.insert(known.unwrap_or_else(|| id.to_owned()), record);
        Ok(())
    }

    pub fn delete_address_set(&mut self, owner: &Ownership, name: &str) -> Result<(), Refusal> {
        let Some(id) = self.address_set(owner, name).map(str::to_owned) else { return Err(Refusal::Missing(format!("there is no address set {name:?}"))) };
        let names = |acl: &AclRecord| {
            let of_owner = self.switches.get(&acl.switch).is_some_and(|switch| self.owner(switch) == *owner);
            of_owner && acl.expression.split(|c: char| !c.is_ascii_alphanumeric() && !"_.-$".contains(c)).any(|word| word.strip_prefix('$') == Some(name))
        };
        if let Some((acl, _)) = self.acls.iter().find(|(_, acl)| names(acl)) {
            return Err(Refusal::InUse(format!("ACL {acl:?} names address set {name:?}")));
        }
        self.address_sets.remove(&id);
        Ok(())
    }

    fn free_subnet(&self, supply: Supply) -> Result<Ipv4Net, Refusal> {
        let mut all = supply.range.subnets(supply.prefix).map_err(|_| Refusal::Exhausted(format!("{} has no networks of /{}", supply.range, supply.prefix)))?;
        all.find(|subnet| self.check_subnet(supply, *subnet).is_ok()).ok_or_else(|| Refusal::Exhausted(format!("no network is free in {}", supply.range)))
    }

    fn wanted_subnet(&self, supply: Supply, text: &str) -> Result<Ipv4Net, Refusal> {
        let subnet: Ipv4Net = text.parse().map_err(|_| Refusal::Invalid(format!("subnet {text:?} is no IPv4 network")))?;
        if subnet.trunc() != subnet {
            return Err(Refusal::Invalid(format!("subnet {text:?} has bits after its prefix")));
        }
        self.check_subnet(supply, subnet)?;
        Ok(subnet)
    }

    fn check_subnet(&self, supply: Supply, subnet: Ipv4Net) -> Result<(), Refusal> {
        if !supply.range.contains(&subnet) || !(16..=29).contains(&subnet.prefix_len()) {
            return Err(Refusal::Invalid(format!("subnet {subnet} is no network of {}, of /16 to /29", supply.range)));
        }
        let gateway = supply.gateway();
        if subnet.contains(&gateway) {
            return Err(Refusal::Invalid(format!("subnet {subnet} has the gateway's address {gateway}")));
        }
        match self.switches.values().find(|switch| switch.subnet.contains(&subnet) || subnet.contains(&switch.subnet)) {
            // Whose it is, is not told.
            Some(_) => Err(Refusal::Exists(format!("addresses of subnet {subnet} are in use"))),
            None => Ok(()),
        }
    }
}

impl Supply {
    pub fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.range.network()).saturating_add(1))
    }
}

/// What names in ACLs of a switch stand for: sets of its project, ports of its own.
pub struct OfSwitch<'a> {
    pub records: &'a Records,
    pub switch: &'a str,
}

impl Names for OfSwitch<'_> {
    fn address_set(&self, name: &str) -> Option<String> {
        let owner = self.records.owner(self.records.switches.get(self.switch)?);
        self.records.address_set(&owner, name).map(str::to_owned)
    }
    fn port(&self, name: &str) -> Option<Ipv4Addr> {
        self.records.ports.values().find(|port| port.switch == self.switch && port.name() == name).map(|port| port.address)
    }
}

/// Names as Kubernetes has them.
fn check_name(what: &str, name: &str, most: usize, marks: &[u8]) -> Result<(), Refusal> {
    let outer = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || marks.contains(&byte);
    let legal = name.len() <= most && name.bytes().all(inner) && outer(name.bytes().next()) && outer(name.bytes().last());
    if legal { Ok(()) } else { Err(Refusal::Invalid(format!("{what} {name:?} is no name"))) }
}

fn full(what: &str, count: usize, most: usize) -> Result<(), Refusal> {
    if count >= most { Err(Refusal::Exhausted(format!("a project has no more than {most} {what}"))) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn supply() -> Supply {
        Supply { range: "10.244.0.0/22".parse().unwrap(), prefix: 24 }
    }
    fn owner(project: &str) -> Ownership {
        Ownership { org_id: "org-1".into(), project_id: project.into() }
    }
    fn caller(project: &str) -> Caller {
        Caller { org_id: "org-1".into(), project_id: project.into(), ..Caller::default() }
    }
    fn acl(expression: &str) -> AclRecord {
        AclRecord { switch: "s1".into(), direction: AclDirection::ToLport, priority: 1000, expression: expression.into(), action: AclAction::Drop }
    }

    #[test]
    fn switches_get_networks_of_their_own() {
        let mut records = Records::default();
        records.create_switch(supply(), &owner("proj-1"), "s1", "shop", "").unwrap();
        records.create_switch(supply(), &owner("proj-2"), "s2", "shop", "").unwrap();
        records.create_switch(supply(), &owner("proj-1"), "s3", "lab", "10.244.3.0/26").unwrap();
        let subnets: Vec<String> = records.switches.values().map(|switch| switch.subnet.to_string()).collect();
        assert_eq!(subnets, ["10.244.1.0/24", "10.244.2.0/24", "10.244.3.0/26"], "the gateway's is nobody's");
        assert_eq!(records.switches.values().map(|switch| switch.tenant).collect::<Vec<_>>(), [1, 2, 1]);
        let refused = |subnet: &str| records.clone().create_switch(supply(), &owner("proj-3"), "s4", "x", subnet).unwrap_err().to_string();
        assert_eq!(refused(""), "no network is free in 10.244.0.0/22");
        assert_eq!(refused("10.244.0.0/24"), "subnet 10.244.0.0/24 has the gateway's address 10.244.0.1");
        assert_eq!(refused("10.244.3.32/28"), "addresses of subnet 10.244.3.32/28 are in use");
        assert!(refused("10.1.0.0/24").contains("is no network of"));
        assert!(matches!(records.create_switch(supply(), &owner("proj-1"), "s5", "shop", ""), Err(Refusal::Exists(_))));
        assert!(matches!(records.switch(&caller("proj-3"), "shop"), Err(Refusal::Missing(_))), "what is others' is not there");
        let administrator = Caller { roles: ["org_admin".to_owned()].into(), ..caller("") };
        assert!(matches!(records.switch(&administrator, "shop"), Err(Refusal::Invalid(_))), "two are called so");
        assert_eq!(records.switch(&administrator, "lab").unwrap().0, "s3");
        records.delete_switch(&caller("proj-2"), "shop").unwrap();
        assert_eq!(records.tenants.keys().copied().collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn an_address_is_one_containers_until_it_is_released() {
        let mut records = Records::default();
        records.create_switch(supply(), &owner("proj-1"), "s1", "shop", "10.244.3.0/29").unwrap();
        let me = caller("proj-1");
        let allocate = |records: &mut Records, container: &str| {
            let id = records.allocate(&me, &format!("port-{container}"), "shop", "web", container)?;
            Ok::<_, Refusal>(records.ports[&id].address.to_string())
        };
        let given: Vec<String> = (1..=5).map(|n| allocate(&mut records, &format!("c{n}")).unwrap()).collect();
        assert_eq!(given, ["10.244.3.2", "10.244.3.3", "10.244.3.4", "10.244.3.5", "10.244.3.6"]);
        assert_eq!(allocate(&mut records, "c2").unwrap(), "10.244.3.3", "asked again");
        assert_eq!(allocate(&mut records, "c6").unwrap_err().to_string(), "no address is free in 10.244.3.0/29");
        records.attach("port-c2");
        assert!(matches!(records.delete_switch(&me, "shop"), Err(Refusal::InUse(_))));
        records.detach(&me, "shop", "c2", true).unwrap();
        records.detach(&me, "shop", "c2", true).unwrap();
        assert_eq!(records.leaving.len(), 1, "its interface is there until it was taken away");
        assert_eq!(allocate(&mut records, "c6").unwrap(), "10.244.3.3");
        assert!(matches!(records.allocate(&me, "p", "shop", "other", "c6"), Err(Refusal::Exists(_))));
        for (pod, container) in [("Web", "c"), ("web", ""), ("web", "a/b"), ("", "c")] {
            assert!(matches!(records.allocate(&me, "p", "shop", pod, container), Err(Refusal::Invalid(_))), "{pod} {container}");
        }
    }

    #[test]
    fn what_an_acl_names_stays() {
        let mut records = Records::default();
        records.create_switch(supply(), &owner("proj-1"), "s1", "shop", "").unwrap();
        let me = owner("proj-1");
        assert!(records.create_acl("a1", acl("ip4.src == $front")).unwrap_err().to_string().contains("there is no address set \"front\""));
        records.set_addresses(&me, "set-1", "front", &["10.0.0.1".into(), "192.0.2.0/24".into()]).unwrap();
        records.set_addresses(&me, "set-9", "front", &["10.0.0.2".into()]).unwrap();
        assert_eq!(records.address_sets.keys().collect::<Vec<_>>(), ["set-1"]);
        records.create_acl("a1", acl("ip4.src == $front && tcp.dst == 80")).unwrap();
        assert!(matches!(records.delete_address_set(&me, "front"), Err(Refusal::InUse(_))));
        assert!(matches!(records.delete_acl(&caller("proj-2"), "a1"), Err(Refusal::Missing(_))));
        records.delete_acl(&caller("proj-1"), "a1").unwrap();
        records.delete_address_set(&me, "front").unwrap();
        assert!(matches!(records.create_acl("a2", AclRecord { priority: 40_000, ..acl("1") }), Err(Refusal::Invalid(_))));
    }
}
