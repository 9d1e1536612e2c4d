//! What the kernel holds, and the script from there to what it shall hold: a change costs what it touches.
//!
//! `ingress` and `egress` lead an isolated pod's address to a chain that asks each of its policies and drops the rest;
//! pods with the same policies share one. A policy's chain names address sets, so that pods come and go as elements.
use super::members::Element;
use super::network_policy::{Direction, Isolation};
use api_cache::ObjectKey;
use api_meta::IpFamily;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::IpAddr;

/// The nftables table that is ours, one of each family.
pub const TABLE: &str = "k8shost-policy";
/// Pods' addresses, with themselves: nobody is kept from itself.
const ITSELF: &str = "itself";

/// What to run: `script` as one transaction and then, when that is done, `cleaning`. (A chain can't surely go in the
/// transaction that takes the last element leading to it.)
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Update {
    pub script: String,
    pub cleaning: String,
}

#[derive(Debug)]
pub struct Tables {
    families: &'static [IpFamily],
    /// One number means a set in the table of each family.
    sets: BTreeMap<u32, Set>,
    chains: BTreeMap<Chain, Vec<String>>,
    /// The chain that judges an address; the last pod that came with it counts.
    judges: BTreeMap<(Direction, IpAddr), Vec<(ObjectKey, String)>>,
    /// Chains by the policies' chains they ask, and how many pods they judge.
    juries: BTreeMap<(Direction, BTreeSet<String>), (String, usize)>,
    before: Before,
    last_number: u32,
}

/// A chain by its family and name.
type Chain = (IpFamily, String);

/// How often each element was put into it.
#[derive(Debug, Default)]
struct Set {
    ports: bool,
    elements: BTreeMap<Element, usize>,
}

/// How what was touched since the last update was then.
#[derive(Debug, Default)]
struct Before {
    sets: BTreeMap<u32, bool>,
    elements: BTreeMap<(u32, Element), bool>,
    chains: BTreeMap<Chain, bool>,
    judges: BTreeMap<(Direction, IpAddr), Option<String>>,
    arrived: BTreeSet<IpAddr>,
}

pub fn set_name(set: u32) -> String {
    format!("set-{set}")
}

impl Default for Tables {
    fn default() -> Self {
        Self::of(&[IpFamily::V4])
    }
}

impl Tables {
    pub fn of(families: &'static [IpFamily]) -> Self {
        Self {
            families,
            sets: BTreeMap::new(),
            chains: BTreeMap::new(),
            judges: BTreeMap::new(),
            juries: BTreeMap::new(),
            before: Before::default(),
            last_number: 0,
        }
    }

    pub fn families(&self) -> &'static [IpFamily] {
        self.families
    }

    /// Addresses of a family that the network has not are nobody's here.
    fn knows(&self, address: IpAddr) -> bool {
        self.families.contains(&IpFamily::of(address))
    }

    pub fn number(&mut self) -> u32 {
        self.last_number += 1;
        self.last_number
    }

    /// Makes an empty set, of addresses or of addresses with ports.
    pub fn open_set(&mut self, ports: bool) -> u32 {
        let id = self.number();
        self.before.sets.entry(id).or_insert(false);
        self.sets.insert(id, Set { ports, elements: BTreeMap::new() });
        id
    }

    pub fn close_set(&mut self, id: u32) {
        if self.sets.remove(&id).is_some() {
            self.before.sets.entry(id).or_insert(true);
        }
    }

    pub fn add(&mut self, id: u32, element: Element) {
        if !self.families.contains(&element.family()) {
            return;
        }
        let Some(set) = self.sets.get_mut(&id) else { return };
        let times = set.elements.entry(element).or_default();
        self.before.elements.entry((id, element)).or_insert(*times > 0);
        *times += 1;
    }

    pub fn remove(&mut self, id: u32, element: Element) {
        let Some(set) = self.sets.get_mut(&id) else { return };
        let Some(times) = set.elements.get_mut(&element) else { return };
        self.before.elements.entry((id, element)).or_insert(true);
        *times -= 1;
        if *times == 0 {
            set.elements.remove(&element);
        }
    }

    pub fn set_chain(&mut self, family: IpFamily, name: &str, rules: Vec<String>) {
        let chain = (family, name.to_owned());
        self.before.chains.entry(chain.clone()).or_insert(self.chains.contains_key(&chain));
        self.chains.insert(chain, rules);
    }

    pub fn remove_chain(&mut self, family: IpFamily, name: &str) {
        let chain = (family, name.to_owned());
        if self.chains.remove(&chain).is_some() {
            self.before.chains.entry(chain).or_insert(true);
        }
    }

    /// From now on this pod's packets are judged by these policies' chains; with none it is not isolated.
    pub fn judge(&mut self, pod: &ObjectKey, direction: Direction, address: IpAddr, policies: BTreeSet<String>) {
        if !self.knows(address) {
            return;
        }
        self.before.judges.entry((direction, address)).or_insert_with(|| Self::current(&self.judges, direction, address));
        if policies.is_empty() {
            return self.leave(pod, direction, address);
        }
        let jury = self.jury(direction, policies);
        self.leave(pod, direction, address);
        self.judges.entry((direction, address)).or_default().push((pod.clone(), jury));
    }

    /// The pod is gone from this address.
    pub fn acquit(&mut self, pod: &ObjectKey, direction: Direction, address: IpAddr) {
        self.judge(pod, direction, address, BTreeSet::new());
    }

    /// A pod is known by its address now: what was held back until then is let go.
    pub fn arrived(&mut self, address: IpAddr) {
        if self.knows(address) {
            self.before.arrived.insert(address);
        }
    }

    fn current(judges: &BTreeMap<(Direction, IpAddr), Vec<(ObjectKey, String)>>, direction: Direction, address: IpAddr) -> Option<String> {
        judges.get(&(direction, address)).and_then(|pods| pods.last()).map(|(_, chain)| chain.clone())
    }

    fn jury(&mut self, direction: Direction, policies: BTreeSet<String>) -> String {
        if let Some((chain, users)) = self.juries.get_mut(&(direction, policies.clone())) {
            *users += 1;
            return chain.clone();
        }
        let chain = format!("pods-{}-{}", self.number(), direction.name());
        let rules: Vec<String> = policies.iter().map(|policy| format!("jump {policy}")).chain(["drop".to_owned()]).collect();
        for family in self.families {
            self.set_chain(*family, &chain, rules.clone());
        }
        self.juries.insert((direction, policies), (chain.clone(), 1));
        chain
    }

    fn leave(&mut self, pod: &ObjectKey, direction: Direction, address: IpAddr) {
        let Some(pods) = self.judges.get_mut(&(direction, address)) else { return };
        let Some(place) = pods.iter().position(|(key, _)| key == pod) else { return };
        let (_, chain) = pods.remove(place);
        if pods.is_empty() {
            self.judges.remove(&(direction, address));
        }
        let jury = self.juries.iter_mut().find(|(_, (name, _))| *name == chain).map(|(key, (_, users))| {
            *users -= 1;
            (key.clone(), *users)
        });
        if let Some((key, 0)) = jury {
            self.juries.remove(&key);
            for family in self.families {
                self.remove_chain(*family, &chain);
            }
        }
    }

    /// What changed since the last time; `None` if nothing did.
    pub fn commit(&mut self) -> Option<Update> {
        let before = std::mem::take(&mut self.before);
        let mut update = Update::default();
        let text = &mut update.script;
        for id in before.sets.keys() {
            if let Some(set) = self.sets.get(id) {
                self.families.iter().for_each(|family| text.push_str(&definition(*family, *id, set.ports)));
            }
        }
        // First all that is named, then what names it.
        for (family, name) in before.chains.keys().filter(|chain| self.chains.contains_key(*chain)) {
            let ip = family.header();
            writeln!(text, "add chain {ip} {TABLE} {name}\nflush chain {ip} {TABLE} {name}").expect("a string takes all");
        }
        for chain in before.chains.keys() {
            for rule in self.chains.get(chain).into_iter().flatten() {
                writeln!(text, "add rule {} {TABLE} {} {rule}", chain.0.header(), chain.1).expect("a string takes all");
            }
        }
        self.change_elements(text, &before);
        self.change_judges(text, &before);
        for address in &before.arrived {
            text.push_str(&let_go(*address));
        }
        let gone: Vec<&Chain> = before.chains.iter().filter(|(chain, was)| **was && !self.chains.contains_key(*chain)).map(|(chain, _)| chain).collect();
        for what in ["flush", "delete"] {
            for (family, name) in &gone {
                writeln!(update.cleaning, "{what} chain {} {TABLE} {name}", family.header()).expect("a string takes all");
            }
        }
        for id in before.sets.iter().filter(|(id, was)| **was && !self.sets.contains_key(id)).map(|(id, _)| *id) {
            for family in self.families {
                writeln!(update.cleaning, "delete set {} {TABLE} {}", family.header(), set_name(id)).expect("a string takes all");
            }
        }
        (update != Update::default()).then_some(update)
    }

    fn change_elements(&self, text: &mut String, before: &Before) {
        let mut changes: BTreeMap<(u32, bool, IpFamily), Vec<String>> = BTreeMap::new();
        for ((id, element), was) in &before.elements {
            // A set that goes takes its elements along.
            let Some(set) = self.sets.get(id) else { continue };
            let is = set.elements.contains_key(element);
            if is != *was {
                changes.entry((*id, is, element.family())).or_default().push(element.to_string());
            }
        }
        for ((id, add, family), elements) in changes {
            let verb = if add { "add" } else { "delete" };
            writeln!(text, "{verb} element {} {TABLE} {} {{ {} }}", family.header(), set_name(id), elements.join(", ")).expect("a string takes all");
        }
    }

    fn change_judges(&self, text: &mut String, before: &Before) {
        for ((direction, address), was) in &before.judges {
            let is = Self::current(&self.judges, *direction, *address);
            if is == *was {
                continue;
            }
            let (ip, map) = (IpFamily::of(*address).header(), direction.name());
            if was.is_some() {
                writeln!(text, "delete element {ip} {TABLE} {map} {{ {address} }}").expect("a string takes all");
            }
            if let Some(chain) = is {
                writeln!(text, "add element {ip} {TABLE} {map} {{ {address} : goto {chain} }}").expect("a string takes all");
            }
        }
        let addresses: BTreeSet<IpAddr> = before.judges.keys().map(|(_, address)| *address).collect();
        for address in addresses {
            let now = |direction| self.judges.contains_key(&(direction, address));
            let then = |direction| before.judges.get(&(direction, address)).map_or_else(|| now(direction), Option::is_some);
            let verb = match (Direction::BOTH.into_iter().any(then), Direction::BOTH.into_iter().any(now)) {
                (false, true) => "add",
                (true, false) => "delete",
                _ => continue,
            };
            writeln!(text, "{verb} element {} {TABLE} {ITSELF} {{ {address} . {address} }}", IpFamily::of(address).header()).expect("a string takes all");
        }
    }

    /// All of it, in one transaction without a gap. `held` are addresses of pods that are not known yet.
    pub fn reload(&mut self, held: &BTreeMap<IpAddr, Isolation>) -> Update {
        self.before = Before::default();
        let mut text: String = self.families.iter().map(|family| without_table(*family) + &skeleton(*family)).collect();
        for (id, set) in &self.sets {
            for family in self.families {
                text.push_str(&definition(*family, *id, set.ports));
                let elements: Vec<String> = set.elements.keys().filter(|element| element.family() == *family).map(ToString::to_string).collect();
                if !elements.is_empty() {
                    writeln!(text, "add element {} {TABLE} {} {{ {} }}", family.header(), set_name(*id), elements.join(", ")).expect("a string takes all");
                }
            }
        }
        for (family, name) in self.chains.keys() {
            writeln!(text, "add chain {} {TABLE} {name}", family.header()).expect("a string takes all");
        }
        for ((family, name), rules) in &self.chains {
            for rule in rules {
                writeln!(text, "add rule {} {TABLE} {name} {rule}", family.header()).expect("a string takes all");
            }
        }
        for ((direction, address), pods) in &self.judges {
            let chain = &pods.last().expect("an address without pods is not kept").1;
            let (ip, map) = (IpFamily::of(*address).header(), direction.name());
            writeln!(text, "add element {ip} {TABLE} {map} {{ {address} : goto {chain} }}").expect("a string takes all");
        }
        let addresses: BTreeSet<IpAddr> = self.judges.keys().map(|(_, address)| *address).collect();
        for address in addresses {
            writeln!(text, "add element {} {TABLE} {ITSELF} {{ {address} . {address} }}", IpFamily::of(address).header()).expect("a string takes all");
        }
        for (address, isolation) in held {
            text.push_str(&hold(*address, *isolation));
        }
        Update { script: text, cleaning: String::new() }
    }
}

/// The fixed part. Every packet of a flow is judged, not only its first: what is forbidden from now on ends now.
/// What the node itself sends to its pods never comes here, nor what they send to it.
fn skeleton(family: IpFamily) -> String {
    let (ip, address) = (family.header(), family.address_type());
    let mut text = format!("table {ip} {TABLE} {{\n set {ITSELF} {{ type {address} . {address}; }}\n");
    for (direction, end, priority) in [(Direction::Egress, "saddr", "filter"), (Direction::Ingress, "daddr", "filter + 1")] {
        let name = direction.name();
        writeln!(
            text,
            " map {name} {{ type {address} : verdict; }}
 set held-{name} {{ type {address}; }}
 chain forward-{name} {{
  type filter hook forward priority {priority}; policy accept;
  ct direction reply accept
  ct state related accept
  {ip} saddr . {ip} daddr @{ITSELF} accept
  {ip} {end} @held-{name} drop
  {ip} {end} vmap @{name}
 }}"
        )
        .expect("a string takes all");
    }
    text + "}\n"
}

fn definition(family: IpFamily, id: u32, ports: bool) -> String {
    let more = if ports { " . inet_proto . inet_service" } else { "" };
    format!("add set {} {TABLE} {} {{ type {}{more} ; }}\n", family.header(), set_name(id), family.address_type())
}

/// The words that take a family's table away. None there is fine.
pub(super) fn without_table(family: IpFamily) -> String {
    let ip = family.header();
    format!("add table {ip} {TABLE}\ndelete table {ip} {TABLE}\n")
}

/// Keeps a pod that is about to start from all traffic it may not have, until its policies are in place for its address.
pub(crate) fn hold(address: IpAddr, isolation: Isolation) -> String {
    let isolated = Direction::BOTH.into_iter().filter(|direction| isolation.holds(*direction));
    let ip = IpFamily::of(address).header();
    isolated.map(|direction| format!("add element {ip} {TABLE} held-{} {{ {address} }}\n", direction.name())).collect()
}

/// Ends that. May be repeated.
pub(crate) fn let_go(address: IpAddr) -> String {
    // Only what is there can be deleted.
    let ip = IpFamily::of(address).header();
    let end = |direction: Direction| {
        let set = format!("{ip} {TABLE} held-{} {{ {address} }}", direction.name());
        format!("add element {set}\ndelete element {set}\n")
    };
    Direction::BOTH.into_iter().map(end).collect()
}
