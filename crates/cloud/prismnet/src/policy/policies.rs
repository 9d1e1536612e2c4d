//! All policies, pods and namespaces, and what a change of one of them changes in the kernel's tables.
//!
//! Only policies that some pod of this node is selected by are live: for these alone there are chains and sets.
use super::acls::acls;
use super::members::{Members, What};
use super::network_policy::{Direction, Isolation, Policy};
use super::pods::PodFacts;
use super::tables::{Tables, Update, set_name};
use api_cache::ObjectKey;
use api_meta::{ClusterName, IpFamily};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

type Labels = BTreeMap<String, String>;

/// The state that decides, and the tables it has led to.
#[derive(Debug, Default)]
pub struct Policies {
    clusters: HashMap<ClusterName, Cluster>,
    tables: Tables,
}

#[derive(Debug, Default)]
struct Cluster {
    namespaces: BTreeMap<Arc<str>, Namespace>,
    /// By [`Members::key`].
    sets: BTreeMap<String, LiveSet>,
}

#[derive(Debug, Default)]
struct Namespace {
    /// `None` until its object is seen.
    labels: Option<Labels>,
    pods: BTreeMap<Arc<str>, PodFacts>,
    policies: BTreeMap<Arc<str>, Entry>,
}

#[derive(Debug)]
struct LiveSet {
    id: u32,
    members: Members,
    /// How many chains name it, each as often as it does.
    users: usize,
}

#[derive(Debug)]
struct Entry {
    policy: Policy,
    live: Option<Live>,
}

/// A policy that pods of this node are judged by.
#[derive(Debug)]
struct Live {
    number: u32,
    /// Keys of the sets its chains name, as often as they do.
    sets: Vec<String>,
    pods: BTreeSet<Arc<str>>,
}

fn chain(number: u32, direction: Direction) -> String {
    format!("policy-{number}-{}", direction.name())
}

impl Policies {
    /// Of a network that has these families; by default IPv4 alone.
    pub fn of(families: &'static [IpFamily]) -> Self {
        Self { clusters: HashMap::new(), tables: Tables::of(families) }
    }

    /// A pod as it is now; `None`: it is gone, or policies don't concern it.
    pub fn set_pod(&mut self, key: &ObjectKey, facts: Option<PodFacts>) {
        let cluster = self.clusters.entry(key.cluster.clone()).or_default();
        let namespace = cluster.namespaces.entry(key.namespace.clone()).or_default();
        let old = match facts.clone() {
            Some(facts) => namespace.pods.insert(key.name.clone(), facts),
            None => namespace.pods.remove(&key.name),
        };
        if old == facts {
            return;
        }
        let labels = namespace.labels.clone();
        for set in cluster.sets.values().filter(|set| set.members.covers(&key.namespace, labels.as_ref())) {
            // First what comes: what stays is not touched.
            facts.iter().flat_map(|pod| set.members.elements(pod)).for_each(|element| self.tables.add(set.id, element));
            old.iter().flat_map(|pod| set.members.elements(pod)).for_each(|element| self.tables.remove(set.id, element));
        }
        for old in old.iter().filter(|old| old.local) {
            let has_still = |address: &IpAddr| facts.as_ref().is_some_and(|new| new.local && new.addresses.contains(address));
            for address in old.addresses.iter().filter(|address| !has_still(address)) {
                for direction in Direction::BOTH {
                    self.tables.acquit(key, direction, *address);
                }
            }
        }
        self.judge(key);
        // A pod that was here before with this address is no news: somebody else may be held back by now.
        for new in facts.iter().filter(|new| new.local) {
            let is_news = |address: &IpAddr| old.as_ref().is_none_or(|old| old.uid != new.uid || !old.addresses.contains(address));
            new.addresses.iter().filter(|address| is_news(address)).for_each(|address| self.tables.arrived(*address));
        }
        self.forget_if_empty(key);
    }

    /// A namespace as it is now; `None`: it is gone.
    pub fn set_namespace(&mut self, key: &ObjectKey, labels: Option<Labels>) {
        let cluster = self.clusters.entry(key.cluster.clone()).or_default();
        // A Namespace is not in one: its name is what its objects have as namespace.
        let namespace = cluster.namespaces.entry(key.name.clone()).or_default();
        let old = std::mem::replace(&mut namespace.labels, labels.clone());
        if old != labels {
            for set in cluster.sets.values() {
                let (was, is) = (set.members.covers(&key.name, old.as_ref()), set.members.covers(&key.name, labels.as_ref()));
                if was == is {
                    continue;
                }
                for element in namespace.pods.values().flat_map(|pod| set.members.elements(pod)) {
                    if is { self.tables.add(set.id, element) } else { self.tables.remove(set.id, element) }
                }
            }
        }
        self.forget_if_empty(&ObjectKey::new(&key.cluster, &key.name, ""));
    }

    /// A policy as it is now; `None`: it is gone.
    pub fn set_policy(&mut self, key: &ObjectKey, policy: Option<Policy>) {
        let cluster = self.clusters.entry(key.cluster.clone()).or_default();
        let namespace = cluster.namespaces.entry(key.namespace.clone()).or_default();
        if namespace.policies.get(&key.name).map(|entry| &entry.policy) == policy.as_ref() {
            return;
        }
        let local: Vec<Arc<str>> = namespace.pods.iter().filter(|(_, pod)| pod.local).map(|(name, _)| name.clone()).collect();
        let mut previous = namespace.policies.remove(&key.name).and_then(|entry| entry.live);
        if let Some(policy) = policy {
            // Its chains are changed under the same names, so that no packet meets a policy half in place.
            let live = previous.take().map(|live| {
                let sets = chains(&mut self.tables, cluster, key, &policy, live.number);
                release(&mut self.tables, cluster, live.sets);
                Live { sets, ..live }
            });
            let namespace = cluster.namespaces.get_mut(&key.namespace).expect("it was looked up above");
            namespace.policies.insert(key.name.clone(), Entry { policy, live });
        }
        for name in local {
            self.judge(&ObjectKey { name, ..key.clone() });
        }
        if let Some(live) = previous
            && let Some(cluster) = self.clusters.get_mut(&key.cluster)
        {
            end(&mut self.tables, cluster, live);
        }
        self.forget_if_empty(key);
    }

    /// In which directions a pod with these labels is isolated.
    pub fn isolation_of(&self, cluster: &ClusterName, namespace: &str, labels: &Labels) -> Isolation {
        let mut isolation = Isolation::default();
        let policies = self.clusters.get(cluster).and_then(|cluster| cluster.namespaces.get(namespace)).into_iter().flat_map(|n| n.policies.values());
        for entry in policies.filter(|entry| entry.policy.pods.matches(labels)) {
            entry.policy.rules.keys().for_each(|direction| isolation.add(*direction));
        }
        isolation
    }

    /// Addresses of this node's pods.
    pub fn local_addresses(&self) -> BTreeSet<IpAddr> {
        let pods = self.clusters.values().flat_map(|cluster| cluster.namespaces.values()).flat_map(|namespace| namespace.pods.values());
        pods.filter(|pod| pod.local).flat_map(|pod| pod.addresses.iter().copied()).collect()
    }

    pub fn commit(&mut self) -> Option<Update> {
        self.tables.commit()
    }

    pub fn reload(&mut self, held: &BTreeMap<IpAddr, Isolation>) -> Update {
        self.tables.reload(held)
    }

    /// Finds a pod's policies anew. Those that gain their first pod here come to life, those that lose their last end.
    fn judge(&mut self, key: &ObjectKey) {
        let Some(cluster) = self.clusters.get_mut(&key.cluster) else { return };
        let Some(namespace) = cluster.namespaces.get(&key.namespace) else { return };
        let pod = namespace.pods.get(&key.name).filter(|pod| pod.local).cloned();
        let selects = |entry: &Entry| pod.as_ref().is_some_and(|pod| entry.policy.pods.matches(&pod.labels));
        let (mine, others): (Vec<_>, Vec<_>) = namespace.policies.iter().partition(|(_, entry)| selects(entry));
        let mine: Vec<Arc<str>> = mine.into_iter().map(|(name, _)| name.clone()).collect();
        let lost: Vec<Arc<str>> =
            others.into_iter().filter(|(_, e)| e.live.as_ref().is_some_and(|live| live.pods.contains(&key.name))).map(|(name, _)| name.clone()).collect();
        let mut asked: BTreeMap<Direction, BTreeSet<String>> = BTreeMap::new();
        for name in mine {
            let policy_key = ObjectKey { name, ..key.clone() };
            let number = enliven(&mut self.tables, cluster, &policy_key, &key.name);
            let entry = &cluster.namespaces[&key.namespace].policies[&policy_key.name];
            for direction in entry.policy.rules.keys() {
                asked.entry(*direction).or_default().insert(chain(number, *direction));
            }
        }
        if let Some(pod) = &pod {
            for direction in Direction::BOTH {
                let policies = asked.remove(&direction).unwrap_or_default();
                for address in &pod.addresses {
                    self.tables.judge(key, direction, *address, policies.clone());
                }
            }
        }
        for name in lost {
            let entry = cluster.namespaces.get_mut(&key.namespace).and_then(|namespace| namespace.policies.get_mut(&name));
            let Some(entry) = entry else { continue };
            let Some(live) = &mut entry.live else { continue };
            live.pods.remove(&key.name);
            if live.pods.is_empty()
                && let Some(live) = entry.live.take()
            {
                end(&mut self.tables, cluster, live);
            }
        }
    }

    fn forget_if_empty(&mut self, key: &ObjectKey) {
        let Some(cluster) = self.clusters.get_mut(&key.cluster) else { return };
        if cluster.namespaces.get(&key.namespace).is_some_and(|n| n.labels.is_none() && n.pods.is_empty() && n.policies.is_empty()) {
            cluster.namespaces.remove(&key.namespace);
        }
        if cluster.namespaces.is_empty() {
            self.clusters.remove(&key.cluster);
        }
    }
}

/// Notes that a pod here is judged by a policy, makes what that needs if it is the first, and gives the policy's number.
fn enliven(tables: &mut Tables, cluster: &mut Cluster, key: &ObjectKey, pod: &Arc<str>) -> u32 {
    let entry = cluster.namespaces.get_mut(&key.namespace).and_then(|namespace| namespace.policies.get_mut(&key.name));
    let entry = entry.expect("the policy was found in this namespace");
    if let Some(live) = &mut entry.live {
        live.pods.insert(pod.clone());
        return live.number;
    }
    let policy = entry.policy.clone();
    let number = tables.number();
    let sets = chains(tables, cluster, key, &policy, number);
    let entry = cluster.namespaces.get_mut(&key.namespace).and_then(|namespace| namespace.policies.get_mut(&key.name));
    entry.expect("nothing took the policy away").live = Some(Live { number, sets, pods: BTreeSet::from([pod.clone()]) });
    number
}

/// Makes a policy's chains; one for each direction, so that a policy that changes its directions leaves none behind.
/// Returns the sets they name.
fn chains(tables: &mut Tables, cluster: &mut Cluster, key: &ObjectKey, policy: &Policy, number: u32) -> Vec<String> {
    let mut sets = Vec::new();
    for direction in Direction::BOTH {
        for family in tables.families() {
            let rules = acls(policy, &key.namespace, direction, *family, |members| {
                let (name, set) = acquire(tables, cluster, members);
                sets.push(set);
                name
            });
            if policy.rules.contains_key(&direction) {
                tables.set_chain(*family, &chain(number, direction), rules);
            } else {
                tables.remove_chain(*family, &chain(number, direction));
            }
        }
    }
    sets
}

fn end(tables: &mut Tables, cluster: &mut Cluster, live: Live) {
    for direction in Direction::BOTH {
        for family in tables.families() {
            tables.remove_chain(*family, &chain(live.number, direction));
        }
    }
    release(tables, cluster, live.sets);
}

/// The set of these members, filled if it is new. Returns its name in the kernel and its key.
fn acquire(tables: &mut Tables, cluster: &mut Cluster, members: Members) -> (String, String) {
    let key = members.key();
    if let Some(set) = cluster.sets.get_mut(&key) {
        set.users += 1;
        return (set_name(set.id), key);
    }
    let id = tables.open_set(members.what != What::Addresses);
    for (name, namespace) in &cluster.namespaces {
        if members.covers(name, namespace.labels.as_ref()) {
            namespace.pods.values().flat_map(|pod| members.elements(pod)).for_each(|element| tables.add(id, element));
        }
    }
    cluster.sets.insert(key.clone(), LiveSet { id, members, users: 1 });
    (set_name(id), key)
}

fn release(tables: &mut Tables, cluster: &mut Cluster, sets: Vec<String>) {
    for key in sets {
        let Some(set) = cluster.sets.get_mut(&key) else { continue };
        set.users -= 1;
        if set.users == 0 {
            tables.close_set(set.id);
            cluster.sets.remove(&key);
        }
    }
}
