//! Ruleset: all that owners ask for, what of it is in the kernel, and the script that leads from one to the other.
use crate::plan::{Backend, Frontend, Protocol, Rules, Target};
use crate::script::{Elements, Script};
use crate::settings::ProxySettings;
use crate::tables::{
    ALLOWED, CLUSTER_ADDRESSES, FIREWALL, Family, HAIRPINS, HOSTED_ADDRESSES, PUBLIC, PickChain, Set, Slot, affinity_is_by_slots, base, remember_definition,
    remember_name,
};
use api_cache::ObjectKey;
use api_meta::IpFamily;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Who asks. Where two claim a frontend, the first in this order has it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Owner {
    Service(ObjectKey),
    Pod(ObjectKey),
}

/// What the kernel still remembers of frontends whose backends changed: entries that lead elsewhere must go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// UDP frontends and their backends. A UDP "connection" lasts as long as packets come.
    pub flows: BTreeMap<Frontend, BTreeSet<SocketAddr>>,
    /// Frontends with affinity and the backends they lost. (Not those they have: another cluster's may have the same address.)
    pub affinity: BTreeMap<Frontend, BTreeSet<SocketAddr>>,
}

/// A frontend as it is in the kernel.
#[derive(Clone, Debug)]
struct Installed {
    target: Arc<Target>,
    /// Backends by slot.
    slots: Vec<SocketAddr>,
    outside_slots: Vec<SocketAddr>,
}

/// The frontends of an owner, and its elements of sets.
type Asked = (BTreeSet<Frontend>, BTreeSet<(Set, String)>);

#[derive(Debug)]
pub struct Ruleset {
    settings: ProxySettings,
    /// What each has asked for: frontends, and elements of addresses that are its alone.
    owners: HashMap<Owner, Asked>,
    claims: HashMap<Frontend, BTreeMap<Owner, Arc<Target>>>,
    installed: HashMap<Frontend, Installed>,
    /// How many need an element that several may need.
    shared: HashMap<(Set, String), usize>,
    chains: HashSet<String>,
    dirty: BTreeSet<Frontend>,
    pending: Script,
}

impl Ruleset {
    pub fn new(settings: ProxySettings) -> Self {
        Self {
            settings,
            owners: HashMap::new(),
            claims: HashMap::new(),
            installed: HashMap::new(),
            shared: HashMap::new(),
            chains: HashSet::new(),
            dirty: BTreeSet::new(),
            pending: Script::default(),
        }
    }

    /// Replaces what an owner asks for; empty rules end it. Nothing happens before `commit`.
    pub fn set(&mut self, owner: &Owner, rules: Rules) {
        let (before, addresses_before) = self.owners.remove(owner).unwrap_or_default();
        let addresses: BTreeSet<(Set, String)> = rules.addresses.iter().map(|address| address_element(rules.cluster, *address)).collect();
        for element in addresses_before.difference(&addresses) {
            self.share(element.clone(), false);
        }
        for element in addresses.difference(&addresses_before) {
            self.share(element.clone(), true);
        }
        let after: BTreeSet<Frontend> = rules.frontends.keys().copied().collect();
        for frontend in before.difference(&after) {
            if let Some(claims) = self.claims.get_mut(frontend) {
                claims.remove(owner);
                if claims.is_empty() {
                    self.claims.remove(frontend);
                }
            }
            self.dirty.insert(*frontend);
        }
        for (frontend, target) in rules.frontends {
            let claims = self.claims.entry(frontend).or_default();
            if claims.get(owner).is_none_or(|known| **known != target) {
                claims.insert(owner.clone(), Arc::new(target));
                self.dirty.insert(frontend);
            }
        }
        if !after.is_empty() || !addresses.is_empty() {
            self.owners.insert(owner.clone(), (after, addresses));
        }
    }

    pub fn owners(&self) -> impl Iterator<Item = &Owner> {
        self.owners.keys()
    }

    /// The script of the changes since the last call; `None` when there are none.
    ///
    /// INVARIANT: a returned script is applied, or `reload` is.
    pub fn commit(&mut self) -> Option<(String, Forgotten)> {
        let mut forgotten = Forgotten::default();
        for frontend in std::mem::take(&mut self.dirty) {
            let target = self.claims.get(&frontend).and_then(|claims| claims.values().next()).cloned();
            self.install(frontend, target, &mut forgotten);
        }
        let script = std::mem::take(&mut self.pending);
        (!script.is_empty()).then(|| (script.render(self.settings.family(), &self.settings.table), forgotten))
    }

    /// The script that makes all anew, whatever is in the kernel.
    pub fn reload(&mut self) -> (String, Forgotten) {
        self.installed.clear();
        self.shared.clear();
        self.chains.clear();
        self.pending = Script::starting_with(base(&self.settings));
        let addresses: Vec<(Set, String)> = self.owners.values().flat_map(|(_, addresses)| addresses).cloned().collect();
        addresses.into_iter().for_each(|element| self.share(element, true));
        self.dirty = self.claims.keys().copied().collect();
        self.commit().expect("the base is never empty")
    }

    fn install(&mut self, frontend: Frontend, target: Option<Arc<Target>>, forgotten: &mut Forgotten) {
        let before = self.installed.remove(&frontend);
        if let (Some(before), Some(target)) = (&before, &target)
            && before.target == *target
        {
            self.installed.insert(frontend, before.clone());
            return;
        }
        let after = target.map(|target| Installed {
            slots: assign(before.as_ref().map_or(&[], |before| &before.slots), &target.backends),
            outside_slots: assign(before.as_ref().map_or(&[], |before| &before.outside_slots), target.outside.as_ref().unwrap_or(&BTreeSet::new())),
            target,
        });
        if let Some(after) = &after {
            self.add_chains(frontend, after);
        }
        let family = self.settings.family();
        let elements = |installed: &Option<Installed>| installed.as_ref().map(|installed| elements(family, frontend, installed)).unwrap_or_default();
        self.pending.change(&elements(&before), &elements(&after));

        let loops = |installed: &Option<Installed>| installed.as_ref().map(|installed| hairpins(&installed.target)).unwrap_or_default();
        let (loops_before, loops_after) = (loops(&before), loops(&after));
        loops_after.difference(&loops_before).for_each(|key| self.share((Set::Named(HAIRPINS), key.clone()), true));
        loops_before.difference(&loops_after).for_each(|key| self.share((Set::Named(HAIRPINS), key.clone()), false));

        let backends = |installed: &Option<Installed>| -> BTreeSet<SocketAddr> {
            installed.iter().flat_map(|i| i.slots.iter().chain(&i.outside_slots)).copied().collect()
        };
        let (had, has) = (backends(&before), backends(&after));
        let sticky = |installed: &Option<Installed>| installed.as_ref().is_some_and(|installed| installed.target.affinity.is_some());
        if sticky(&before) && !affinity_is_by_slots(family) && !had.is_subset(&has) {
            forgotten.affinity.insert(frontend, had.difference(&has).copied().collect());
        }
        // One that appears may have flows already, which nobody translated.
        if frontend.protocol == Protocol::Udp && (!had.is_subset(&has) || had.is_empty() && !has.is_empty()) {
            forgotten.flows.insert(frontend, has);
        }
        if let Some(after) = after {
            self.installed.insert(frontend, after);
        }
    }

    fn add_chains(&mut self, frontend: Frontend, installed: &Installed) {
        for outside in [false, true] {
            let Some(chain) = pick_chain(self.settings.family(), frontend, installed, outside) else { continue };
            if self.chains.insert(chain.name()) {
                for slot in chain.slots() {
                    if self.chains.insert(slot.to_string()) {
                        self.pending.chains.push_str(&slot.definition(&self.settings));
                    }
                    if let Some(seconds) = chain.kept_seconds
                        && self.chains.insert(slot.keep_name(seconds))
                    {
                        self.pending.chains.push_str(&slot.keep_definition(seconds, &self.settings));
                    }
                }
                self.pending.chains.push_str(&chain.definition(&self.settings));
            }
        }
        if let Some(seconds) = installed.target.affinity.filter(|_| !affinity_is_by_slots(self.settings.family()))
            && self.chains.insert(remember_name(seconds))
        {
            self.pending.chains.push_str(&remember_definition(seconds, &self.settings));
        }
    }

    /// Counts one more or one fewer need of an element; the first brings it, the last takes it away.
    fn share(&mut self, element: (Set, String), needed: bool) {
        let only = Elements::from([(element.clone(), String::new())]);
        let count = self.shared.entry(element.clone()).or_default();
        if needed {
            *count += 1;
            if *count == 1 {
                self.pending.change(&Elements::new(), &only);
            }
        } else {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.shared.remove(&element);
                self.pending.change(&only, &Elements::new());
            }
        }
    }
}

/// Gives backends slots 0 to n-1, moving as few as possible: those known stay, gaps are filled by new ones, then by the last.
fn assign(before: &[SocketAddr], wanted: &BTreeSet<Backend>) -> Vec<SocketAddr> {
    let wanted: BTreeSet<SocketAddr> = wanted.iter().map(|backend| backend.at).collect();
    let known: HashSet<SocketAddr> = before.iter().copied().collect();
    let mut new = wanted.iter().filter(|backend| !known.contains(backend)).copied();
    let mut slots: Vec<Option<SocketAddr>> = before.iter().map(|backend| if wanted.contains(backend) { Some(*backend) } else { new.next() }).collect();
    slots.extend(new.map(Some));
    let mut gap = 0;
    while gap < slots.len() {
        if slots[gap].is_none() {
            slots.swap_remove(gap);
        } else {
            gap += 1;
        }
    }
    slots.into_iter().flatten().collect()
}

/// The element that says an address is a Service's alone, in the cluster of this number.
fn address_element(cluster: u16, address: IpAddr) -> (Set, String) {
    if cluster == 0 {
        (Set::Named(CLUSTER_ADDRESSES), address.to_string())
    } else {
        (Set::Named(HOSTED_ADDRESSES), format!("{:#x} . {address}", u32::from(cluster) << 16))
    }
}

fn family(frontend: Frontend) -> Family {
    match (frontend.address, frontend.cluster) {
        (None, _) => Family::Ports,
        (Some(_), 0) => Family::Services,
        (Some(_), _) => Family::Hosted,
    }
}

fn pick_chain(ip: IpFamily, frontend: Frontend, installed: &Installed, outside: bool) -> Option<PickChain> {
    let target = &installed.target;
    let count = if outside { installed.outside_slots.len() } else { installed.slots.len() };
    let translation = if outside { crate::plan::Translation::Keep } else { target.translation };
    let kept_seconds = target.affinity.filter(|_| affinity_is_by_slots(ip));
    (count > 0).then(|| PickChain { family: family(frontend), translation, count, outside, sticky: target.affinity.is_some(), kept_seconds })
}

fn elements(ip: IpFamily, frontend: Frontend, installed: &Installed) -> Elements {
    let (family, key, target) = (family(frontend), frontend.to_string(), &installed.target);
    let mut elements = Elements::new();
    let mut add = |set: &'static str, key: String, value: String| {
        elements.insert((Set::Named(set), key), value);
    };
    match pick_chain(ip, frontend, installed, false) {
        Some(chain) => {
            add(family.frontends(), key.clone(), format!("goto {}", chain.name()));
            match pick_chain(ip, frontend, installed, true) {
                Some(chain) => add(family.outside(), key.clone(), format!("goto {}", chain.name())),
                // Others could serve, but not here: outside balancers must look for another node.
                None if target.outside.is_some() => add(family.outside(), key.clone(), "drop".into()),
                None => {}
            }
            if let Some(seconds) = target.affinity.filter(|_| !affinity_is_by_slots(ip)) {
                add(family.sticky(), key.clone(), format!("goto {}", remember_name(seconds)));
            }
            if frontend.cluster == 0 && target.cluster != 0 {
                add(family.owners(), key.clone(), format!("{:#x}", u32::from(target.cluster) << 16 | PUBLIC));
            }
        }
        None => add(family.empty(), key.clone(), if target.drop { "drop".into() } else { "goto refuse".into() }),
    }
    if frontend.address.is_some() && !target.sources.is_empty() {
        add(FIREWALL, key.clone(), String::new());
        for range in &target.sources {
            add(ALLOWED, format!("{key} . {range}"), String::new());
        }
    }
    for (slots, outside) in [(&installed.slots, false), (&installed.outside_slots, true)] {
        for (number, backend) in slots.iter().enumerate() {
            elements.insert((Set::Slot(Slot { family, outside, number }), key.clone()), format!("{} . {}", backend.ip(), backend.port()));
        }
    }
    elements
}

/// Backends of this node that may be their own clients; their answers must pass the node to be translated back.
fn hairpins(target: &Target) -> BTreeSet<String> {
    let all = target.backends.iter().chain(target.outside.iter().flatten());
    all.filter(|backend| backend.local).map(|backend| format!("{0} . {0}", backend.at.ip())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Translation;
    use api_meta::ClusterName;

    fn owner(name: &str) -> Owner {
        Owner::Service(ObjectKey::new(&ClusterName::root(), "default", name))
    }

    /// Rules of one frontend, 10.96.0.`address`:80, with backends 10.244.0.x:8080.
    fn rules(address: u8, backends: &[u8]) -> Rules {
        let backends = backends.iter().map(|last| Backend { at: SocketAddr::from(([10, 244, 0, *last], 8080)), local: false }).collect();
        let target = Target { cluster: 0, translation: Translation::Cluster, backends, outside: None, drop: false, affinity: None, sources: Vec::new() };
        let address = IpAddr::from([10, 96, 0, address]);
        Rules {
            cluster: 0,
            frontends: BTreeMap::from([(Frontend { cluster: 0, address: Some(address), protocol: Protocol::Tcp, port: 80 }, target)]),
            addresses: BTreeSet::from([address]),
        }
    }

    fn loaded() -> Ruleset {
        let mut ruleset = Ruleset::new(ProxySettings::new("n1", "10.244.0.0/16".parse().unwrap()));
        ruleset.set(&owner("a"), rules(1, &[1, 2, 3]));
        ruleset.reload();
        ruleset
    }

    #[track_caller]
    fn check(ruleset: &mut Ruleset, expected: &[&str]) {
        let script = ruleset.commit().map(|(script, _)| script).unwrap_or_default();
        let lines: Vec<String> = script.lines().filter(|line| line.contains("element")).map(|line| line.replace(" element ip k8shost-proxy", "")).collect();
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_lost_backend_moves_only_the_last_one() {
        let mut ruleset = loaded();
        ruleset.set(&owner("a"), rules(1, &[2, 3]));
        check(
            &mut ruleset,
            &[
                "delete services { 10.96.0.1 . tcp . 80 }",
                "delete services-slot-0 { 10.96.0.1 . tcp . 80 }",
                "delete services-slot-2 { 10.96.0.1 . tcp . 80 }",
                "add services { 10.96.0.1 . tcp . 80 : goto services-cluster-2 }",
                "add services-slot-0 { 10.96.0.1 . tcp . 80 : 10.244.0.3 . 8080 }",
            ],
        );
        ruleset.set(&owner("a"), rules(1, &[4, 3]));
        check(&mut ruleset, &["delete services-slot-1 { 10.96.0.1 . tcp . 80 }", "add services-slot-1 { 10.96.0.1 . tcp . 80 : 10.244.0.4 . 8080 }"]);
        ruleset.set(&owner("a"), rules(1, &[3, 4]));
        check(&mut ruleset, &[]);
    }

    #[test]
    fn without_backends_connections_are_refused_and_without_service_nothing_is_left() {
        let mut ruleset = loaded();
        ruleset.set(&owner("a"), rules(1, &[]));
        check(
            &mut ruleset,
            &[
                "delete services { 10.96.0.1 . tcp . 80 }",
                "delete services-slot-0 { 10.96.0.1 . tcp . 80 }",
                "delete services-slot-1 { 10.96.0.1 . tcp . 80 }",
                "delete services-slot-2 { 10.96.0.1 . tcp . 80 }",
                "add empty-services { 10.96.0.1 . tcp . 80 : goto refuse }",
            ],
        );
        ruleset.set(&owner("a"), Rules::default());
        check(&mut ruleset, &["delete cluster-addresses { 10.96.0.1 }", "delete empty-services { 10.96.0.1 . tcp . 80 }"]);
        assert_eq!((ruleset.claims.len(), ruleset.installed.len(), ruleset.shared.len(), ruleset.owners.len()), (0, 0, 0, 0));
    }

    #[test]
    fn clusters_share_addresses_and_never_backends() {
        let mut ruleset = loaded();
        let hosted = |number: u16, backends: &[u8]| {
            let of_root = rules(1, backends);
            let frontends =
                of_root.frontends.into_iter().map(|(frontend, target)| (Frontend { cluster: number, ..frontend }, Target { cluster: number, ..target }));
            Rules { cluster: number, frontends: frontends.collect(), addresses: of_root.addresses }
        };
        let tenant = |name: &str| Owner::Service(ObjectKey::new(&ClusterName::hosted("n", name).unwrap(), "default", "a"));
        ruleset.set(&tenant("x"), hosted(7, &[8]));
        check(
            &mut ruleset,
            &[
                "add hosted { 0x70000 . 10.96.0.1 . tcp . 80 : goto hosted-cluster-1 }",
                "add hosted-addresses { 0x70000 . 10.96.0.1 }",
                "add hosted-slot-0 { 0x70000 . 10.96.0.1 . tcp . 80 : 10.244.0.8 . 8080 }",
            ],
        );
        ruleset.set(&tenant("x"), hosted(8, &[8]));
        let (script, _) = ruleset.commit().unwrap();
        assert!(
            script.contains("delete element ip k8shost-proxy hosted { 0x70000 . 10.96.0.1 . tcp . 80 }")
                && script.contains("hosted-addresses { 0x80000 . 10.96.0.1 }"),
            "{script}"
        );
        let mut port = hosted(8, &[9]);
        port.frontends =
            port.frontends.into_values().map(|target| (Frontend { cluster: 0, address: None, protocol: Protocol::Tcp, port: 30080 }, target)).collect();
        port.addresses.clear();
        ruleset.set(&tenant("y"), port);
        let (script, _) = ruleset.commit().unwrap();
        assert!(script.contains("owners-ports { tcp . 30080 : 0x88000 }"), "{script}");
        for name in ["x", "y"] {
            ruleset.set(&tenant(name), Rules::default());
        }
        ruleset.set(&owner("a"), Rules::default());
        ruleset.commit().unwrap();
        assert_eq!((ruleset.claims.len(), ruleset.installed.len(), ruleset.shared.len(), ruleset.owners.len()), (0, 0, 0, 0));
    }

    #[test]
    fn the_first_of_two_claims_holds_until_it_goes() {
        let mut ruleset = loaded();
        ruleset.set(&owner("b"), rules(1, &[9]));
        check(&mut ruleset, &[]);
        ruleset.set(&owner("a"), Rules::default());
        let (script, _) = ruleset.commit().unwrap();
        assert!(script.contains("10.244.0.9") && !script.contains("cluster-addresses"), "{script}");
    }

    #[test]
    fn what_comes_and_goes_between_two_commits_is_never_told() {
        let mut ruleset = loaded();
        ruleset.set(&owner("b"), rules(2, &[9]));
        ruleset.set(&owner("b"), Rules::default());
        check(&mut ruleset, &[]);
    }
}
