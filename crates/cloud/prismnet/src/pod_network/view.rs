//! PodNetworkView: what there is of the network, from the caches of what it follows from. A question costs what it is about.
use super::acls::acls;
use super::address_sets::{AddressSet, AddressSets, numbers};
use super::ports::{facts, port, range_of};
use super::switches::{Switch, Switches};
use crate::policy::{Members, PodFacts, Policy};
use crate::proto::{Acl, LogicalSwitchPort};
use api_cache::{Cache, Change, Listening, ObjectKey};
use api_meta::ClusterName;
use cloud_api::{Caller, Ownership};
use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use parking_lot::RwLock;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

/// The Service that is a cluster's DNS.
const DNS: (&str, &str) = ("kube-system", "kube-dns");

/// What the network follows from, in all clusters.
pub struct Watched {
    pub namespaces: Arc<Cache<Namespace>>,
    pub pods: Arc<Cache<Pod>>,
    pub policies: Arc<Cache<NetworkPolicy>>,
    pub nodes: Arc<Cache<Node>>,
    pub services: Arc<Cache<Service>>,
}

pub struct PodNetworkView {
    watched: Watched,
    switches: Arc<RwLock<Switches>>,
    _following: Listening,
}

impl PodNetworkView {
    pub fn new(watched: Watched) -> Self {
        let switches = Arc::new(RwLock::new(Switches::default()));
        let followed = switches.clone();
        let take = move |change: &Change<Namespace>| {
            let labels = change.new.as_ref().map(|namespace| namespace.metadata.labels.clone().unwrap_or_default());
            followed.write().set(&change.key.cluster, &change.key.name, labels.as_ref());
        };
        let following = watched.namespaces.listen(take);
        Self { watched, switches, _following: following }
    }

    /// Waits until everything there is has been seen.
    pub async fn synced(&self) {
        let Watched { namespaces, pods, policies, nodes, services } = &self.watched;
        namespaces.synced().await;
        pods.synced().await;
        policies.synced().await;
        nodes.synced().await;
        services.synced().await;
    }

    /// The caller's switches with their owners, by name.
    pub fn switches(&self, caller: &Caller) -> Vec<(Switch, Ownership)> {
        let mut own: Vec<_> = self.switches.read().usable_by(caller).map(|(switch, owner)| (switch, owner.clone())).collect();
        own.sort_by_cached_key(|(switch, _)| switch.name());
        own
    }

    pub fn switch(&self, caller: &Caller, namespace: &str) -> Option<Switch> {
        self.switches.read().find(caller, namespace)
    }

    pub fn pod(&self, switch: &Switch, name: &str) -> Option<Arc<Pod>> {
        self.watched.pods.get(&ObjectKey::new(&switch.cluster, &switch.namespace, name))
    }

    /// The pods of a switch.
    pub fn pods(&self, switch: &Switch) -> Vec<Arc<Pod>> {
        self.watched.pods.list(&switch.cluster, Some(&switch.namespace))
    }

    pub fn port(&self, switch: &Switch, pod: &Pod) -> Option<LogicalSwitchPort> {
        port(switch, pod, self.range_of(switch, pod))
    }

    /// Whom pods of a switch ask for names.
    pub fn dns_servers(&self, switch: &Switch) -> Vec<String> {
        let service = self.watched.services.get(&ObjectKey::new(&switch.cluster, DNS.0, DNS.1));
        let address = service.and_then(|service| service.spec.as_ref()?.cluster_ip.clone());
        address.into_iter().collect()
    }

    /// A switch's ACLs; the address sets that they name are put into `sets`.
    pub fn acls(&self, caller: &Caller, switch: &Switch, sets: &mut AddressSets) -> Vec<Acl> {
        let pods = OwnPods::of(self, caller);
        self.acls_with(&pods, switch, sets)
    }

    /// The sets that ACLs of the caller's switches name. Of pods, only the caller's are told.
    pub fn address_sets(&self, caller: &Caller) -> BTreeMap<String, BTreeSet<Ipv4Addr>> {
        let (pods, mut sets) = (OwnPods::of(self, caller), AddressSets::new());
        for switch in &pods.switches {
            self.acls_with(&pods, switch, &mut sets);
        }
        let members = |set: &AddressSet| {
            let covered = pods.switches.iter().filter(|switch| set.covers(switch, self.labels(switch).as_ref()));
            covered.flat_map(|switch| set.addresses(&pods.facts(switch)).collect::<Vec<_>>()).collect()
        };
        sets.iter().map(|(name, set)| (name.clone(), members(set))).collect()
    }

    fn acls_with(&self, pods: &OwnPods<'_>, switch: &Switch, sets: &mut AddressSets) -> Vec<Acl> {
        let named = |members: &Members| {
            let covered = pods.switches.iter().filter(|other| other.cluster == switch.cluster);
            let covered = covered.filter(|other| members.covers(&other.namespace, self.labels(other).as_ref()));
            covered.flat_map(|other| numbers(members, &pods.facts(other)).collect::<Vec<_>>()).collect()
        };
        let policies = self.watched.policies.list(&switch.cluster, Some(&switch.namespace));
        let each = |policy: &Arc<NetworkPolicy>| acls(switch, policy.metadata.name.as_deref().unwrap_or_default(), &Policy::of(policy), &named, sets);
        let mut acls: Vec<Acl> = policies.iter().flat_map(each).collect();
        acls.sort_by_key(|acl| std::cmp::Reverse(acl.priority));
        acls
    }

    fn labels(&self, switch: &Switch) -> Option<BTreeMap<String, String>> {
        let namespace = self.watched.namespaces.get(&ObjectKey::new(&switch.cluster, "", &switch.namespace))?;
        Some(namespace.metadata.labels.clone().unwrap_or_default())
    }

    fn range_of(&self, switch: &Switch, pod: &Pod) -> Option<Ipv4Net> {
        let name = pod.spec.as_ref()?.node_name.as_deref()?;
        let of = |cluster: &ClusterName| self.watched.nodes.get(&ObjectKey::new(cluster, "", name));
        // Virtual clusters have machines of their own, or run on the host's.
        let node = of(&switch.cluster).or_else(|| of(&ClusterName::root()))?;
        range_of(&node)
    }
}

/// The pods of a caller's switches, each switch looked at when it is asked for and once.
struct OwnPods<'a> {
    view: &'a PodNetworkView,
    switches: Vec<Switch>,
    seen: RefCell<BTreeMap<Switch, Arc<Vec<PodFacts>>>>,
}

impl<'a> OwnPods<'a> {
    fn of(view: &'a PodNetworkView, caller: &Caller) -> Self {
        let switches = view.switches.read().usable_by(caller).map(|(switch, _)| switch).collect();
        Self { view, switches, seen: RefCell::default() }
    }

    fn facts(&self, switch: &Switch) -> Arc<Vec<PodFacts>> {
        if let Some(seen) = self.seen.borrow().get(switch) {
            return seen.clone();
        }
        let pods = Arc::new(self.view.pods(switch).iter().filter_map(|pod| facts(pod)).collect::<Vec<_>>());
        self.seen.borrow_mut().insert(switch.clone(), pods.clone());
        pods
    }
}
