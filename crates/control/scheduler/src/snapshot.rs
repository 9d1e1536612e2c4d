//! Snapshot: all nodes with their pods, kept up to date change by change, never rebuilt.
use crate::claim_users::ClaimUsers;
use crate::spread_tally::{Parts, Spread};
use crate::tallies::Tallies;
use crate::term::Term;
use crate::term_tally::{ByValue, Meant, StandingTerms};
use crate::{NodeInfo, PodInfo};
use api_meta::ClusterName;
use controller_kit::ObjectKey;
use controller_kit::own_nodes::owner;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// The labels of namespaces, by cluster and name; those with none are left out.
#[derive(Default)]
pub struct NamespaceLabels(HashMap<(ClusterName, Arc<str>), Arc<Namespace>>);

impl NamespaceLabels {
    pub fn of(&self, cluster: &ClusterName, namespace: &Arc<str>) -> &BTreeMap<String, String> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        self.0.get(&(cluster.clone(), namespace.clone())).and_then(|namespace| namespace.metadata.labels.as_ref()).unwrap_or(&NONE)
    }
    fn set(&mut self, cluster: &ClusterName, name: &Arc<str>, namespace: Option<Arc<Namespace>>) {
        let key = (cluster.clone(), name.clone());
        match namespace.filter(|namespace| namespace.metadata.labels.as_ref().is_some_and(|labels| !labels.is_empty())) {
            Some(namespace) => self.0.insert(key, namespace),
            None => self.0.remove(&key),
        };
    }
}

struct Placed {
    node: Arc<str>,
    info: Arc<PodInfo>,
}

/// An image on nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImageState {
    pub size: i64,
    pub nodes: usize,
}

#[derive(Default)]
pub struct Snapshot {
    nodes: Vec<NodeInfo>,
    /// How many of them are virtual clusters' own.
    own_nodes: usize,
    by_name: HashMap<Arc<str>, usize>,
    placed: HashMap<ObjectKey, Placed>,
    /// Pods on nodes that are not known (yet).
    homeless: HashMap<Arc<str>, HashSet<ObjectKey>>,
    images: HashMap<String, ImageState>,
    /// Pods that shall run on a node once its victims are gone.
    nominated: HashMap<Arc<str>, Vec<Arc<PodInfo>>>,
    namespaces: NamespaceLabels,
    claims: ClaimUsers,
    /// INVARIANT: these say of `nodes` and their pods what counting them all would say.
    standing: StandingTerms,
    meant: Mutex<Tallies<Meant>>,
    spreads: Mutex<Tallies<Spread>>,
}

impl Snapshot {
    pub fn nodes(&self) -> &[NodeInfo] {
        &self.nodes
    }
    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }
    pub fn node(&self, name: &str) -> Option<&NodeInfo> {
        self.nodes.get(self.index_of(name)?)
    }
    pub fn image(&self, name: &str) -> ImageState {
        self.images.get(name).copied().unwrap_or_default()
    }
    /// Whether there are nodes of virtual clusters among them.
    pub fn has_own_nodes(&self) -> bool {
        self.own_nodes > 0
    }
    pub fn has_images(&self) -> bool {
        !self.images.is_empty()
    }
    pub fn namespaces(&self) -> &NamespaceLabels {
        &self.namespaces
    }
    /// Who uses which claim.
    pub fn claims(&self) -> &ClaimUsers {
        &self.claims
    }
    /// The affinity terms of pods that are placed.
    pub fn standing(&self) -> &StandingTerms {
        &self.standing
    }
    /// How many pods these terms mean, by the topology of each.
    pub fn meant(&self, question: Meant) -> Arc<Vec<ByValue>> {
        let cluster = question.cluster.clone();
        self.meant.lock().ask(&cluster, question, &self.nodes, &self.namespaces)
    }
    /// How many pods there are in each part.
    pub fn spread(&self, question: Spread) -> Arc<Parts> {
        let cluster = question.cluster.clone();
        self.spreads.lock().ask(&cluster, question, &self.nodes, &self.namespaces)
    }
    /// Where a pod is, or is assumed to be.
    pub fn place_of(&self, key: &ObjectKey) -> Option<&str> {
        self.placed.get(key).map(|placed| &*placed.node)
    }
    /// Pods that shall run there and are not less important than this one. Priorities are each cluster's own: what a
    /// virtual cluster has made room for it holds against its own pods alone, and the host cluster against everybody's.
    pub fn nominated(&self, node: &str, but: &PodInfo) -> impl Iterator<Item = &Arc<PodInfo>> {
        let holds = |pod: &PodInfo| if pod.key.cluster == but.key.cluster { pod.priority >= but.priority } else { pod.key.cluster.is_root() };
        self.nominated.get(node).into_iter().flatten().filter(move |pod| holds(pod) && pod.key != but.key)
    }
    pub fn has_nominated(&self) -> bool {
        !self.nominated.is_empty()
    }

    pub fn set_namespace(&mut self, cluster: &ClusterName, name: &Arc<str>, namespace: Option<Arc<Namespace>>) {
        let before = self.namespaces.of(cluster, name).clone();
        self.namespaces.set(cluster, name, namespace);
        if before != *self.namespaces.of(cluster, name) {
            self.meant.get_mut().forget(cluster, |meant| meant.terms.iter().any(Term::looks_at_namespaces));
        }
    }

    pub fn set_node(&mut self, node: Arc<Node>) {
        let name: Arc<str> = node.metadata.name.as_deref().unwrap_or_default().into();
        if let Some(at) = self.index_of(&name) {
            let old = self.nodes[at].node.clone();
            self.count_images(&old, false);
            self.count_images(&node, true);
            let counts_otherwise = old.metadata.labels != node.metadata.labels
                || old.spec.as_ref().and_then(|spec| spec.taints.as_ref()) != node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
            if counts_otherwise {
                self.count_node(at, -1);
            }
            self.nodes[at].replace_node(node);
            if counts_otherwise {
                self.count_node(at, 1);
            }
            return;
        }
        self.count_images(&node, true);
        let mut info = NodeInfo::new(node);
        for key in self.homeless.remove(&name).into_iter().flatten() {
            if let Some(placed) = self.placed.get(&key) {
                info.add(placed.info.clone());
            }
        }
        self.own_nodes += usize::from(owner(&name).is_some());
        self.by_name.insert(name, self.nodes.len());
        self.nodes.push(info);
        self.count_node(self.nodes.len() - 1, 1);
    }

    pub fn remove_node(&mut self, name: &str) {
        let Some(at) = self.by_name.remove(name) else { return };
        self.count_node(at, -1);
        let info = self.nodes.swap_remove(at);
        self.own_nodes -= usize::from(owner(name).is_some());
        if let Some(moved) = self.nodes.get(at) {
            self.by_name.insert(moved.name.clone(), at);
        }
        self.count_images(&info.node, false);
        if !info.pods.is_empty() {
            self.homeless.entry(info.name.clone()).or_default().extend(info.pods.iter().map(|pod| pod.key.clone()));
        }
    }

    /// The pod is on this node; where it was before, and as what, is forgotten.
    pub fn place(&mut self, info: Arc<PodInfo>, node: &str) {
        self.remove_pod(&info.key);
        let name: Arc<str> = match self.index_of(node) {
            Some(at) => {
                self.nodes[at].add(info.clone());
                self.count_pod(&info, at, 1);
                self.nodes[at].name.clone()
            }
            None => {
                let name: Arc<str> = node.into();
                self.homeless.entry(name.clone()).or_default().insert(info.key.clone());
                name
            }
        };
        self.claims.add(&info);
        self.placed.insert(info.key.clone(), Placed { node: name, info });
    }

    /// A placed pod changed in nothing that counts: its newest form stands for it, so that no older one is kept.
    pub fn renew(&mut self, key: &ObjectKey, pod: &Arc<Pod>) {
        let Some(placed) = self.placed.get_mut(key) else { return };
        placed.info = Arc::new(PodInfo { pod: pod.clone(), ..(*placed.info).clone() });
        if let Some(at) = self.by_name.get(&placed.node)
            && let Some(on_node) = self.nodes[*at].pods.iter_mut().find(|other| other.key == *key)
        {
            on_node.clone_from(&placed.info);
        }
    }

    /// True if it was anywhere.
    pub fn remove_pod(&mut self, key: &ObjectKey) -> bool {
        let Some(Placed { node, info }) = self.placed.remove(key) else { return false };
        self.claims.remove(&info);
        if let Some(at) = self.index_of(&node) {
            self.nodes[at].remove(&info);
            self.count_pod(&info, at, -1);
        } else if let Some(keys) = self.homeless.get_mut(&node) {
            keys.remove(key);
            if keys.is_empty() {
                self.homeless.remove(&node);
            }
        }
        true
    }

    pub fn nominate(&mut self, info: Arc<PodInfo>, node: &str) {
        self.unnominate(&info.key);
        self.nominated.entry(node.into()).or_default().push(info);
    }

    pub fn unnominate(&mut self, key: &ObjectKey) {
        if self.nominated.is_empty() {
            return;
        }
        self.nominated.retain(|_, pods| {
            pods.retain(|pod| pod.key != *key);
            !pods.is_empty()
        });
    }

    fn count_pod(&mut self, pod: &PodInfo, at: usize, by: i64) {
        let node = &self.nodes[at];
        self.standing.pod(pod, node, by);
        self.meant.get_mut().pod(pod, node, &self.namespaces, by);
        self.spreads.get_mut().pod(pod, node, &self.namespaces, by);
    }

    /// A node with all its pods comes or goes.
    fn count_node(&mut self, at: usize, by: i64) {
        let node = &self.nodes[at];
        node.pods.iter().for_each(|pod| self.standing.pod(pod, node, by));
        self.meant.get_mut().node(node, &self.namespaces, by);
        self.spreads.get_mut().node(node, &self.namespaces, by);
    }

    fn count_images(&mut self, node: &Node, here: bool) {
        for image in node.status.iter().flat_map(|status| status.images.iter().flatten()) {
            for name in image.names.iter().flatten() {
                let state = self.images.entry(name.clone()).or_default();
                if here {
                    state.size = image.size_bytes.unwrap_or_default();
                    state.nodes += 1;
                } else {
                    state.nodes = state.nodes.saturating_sub(1);
                    if state.nodes == 0 {
                        self.images.remove(name);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{node, pod};
    use serde_json::json;

    #[test]
    fn pods_wait_for_their_node_and_leave_nothing_behind() {
        let mut snapshot = Snapshot::default();
        let info = pod("a", json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "1", "x/y": "2"}}}]}));
        snapshot.place(info.clone(), "n1");
        snapshot.set_node(node("n1", json!({})));
        snapshot.set_node(node("n2", json!({})));
        assert_eq!((snapshot.node("n1").unwrap().requested.cpu, snapshot.node("n1").unwrap().requested.other("x/y")), (1000, 2));
        snapshot.remove_node("n1");
        assert!(snapshot.node("n1").is_none() && snapshot.node("n2").is_some());
        snapshot.set_node(node("n1", json!({})));
        assert_eq!(snapshot.node("n1").unwrap().pods.len(), 1);
        snapshot.place(info.clone(), "n2");
        assert_eq!((snapshot.node("n1").unwrap().requested.cpu, snapshot.node("n2").unwrap().requested.cpu), (0, 1000));
        assert!(snapshot.remove_pod(&info.key) && !snapshot.remove_pod(&info.key));
        assert_eq!(snapshot.node("n2").unwrap().requested.cpu, 0);
    }

    #[test]
    fn images_are_counted_over_nodes() {
        let mut snapshot = Snapshot::default();
        let with = json!({"status": {"images": [{"names": ["a:1"], "sizeBytes": 7}]}});
        snapshot.set_node(node("n1", with.clone()));
        snapshot.set_node(node("n2", with.clone()));
        snapshot.set_node(node("n2", with));
        assert_eq!(snapshot.image("a:1"), ImageState { size: 7, nodes: 2 });
        snapshot.set_node(node("n1", json!({})));
        snapshot.remove_node("n2");
        assert_eq!(snapshot.image("a:1"), ImageState::default());
    }
}
