//! Aggregation: groups of the API that servers in the cluster answer for, as APIServices say.
//!
//! Only what no kind of this server answers for is looked up here, so that nobody else pays for it.
mod availability;
mod backend;
pub(crate) mod discovery;
mod forward;
mod trust;

pub(crate) use availability::follow;
pub(crate) use backend::Backend;
pub use trust::{FRONT_PROXY, FrontProxy};

use api_meta::{ClusterName, Object};
use backend::State;
use parking_lot::RwLock;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::mpsc;

/// The APIServices of every cluster that lead to a Service, by name.
pub struct Aggregation {
    clusters: RwLock<HashMap<ClusterName, BTreeMap<String, Arc<Backend>>>>,
    /// Changes whenever discovery does.
    version: AtomicU64,
    /// New backends, for whoever looks after them.
    found: mpsc::UnboundedSender<Arc<Backend>>,
}

impl Aggregation {
    pub(crate) fn new() -> (Arc<Self>, mpsc::UnboundedReceiver<Arc<Backend>>) {
        let (found, waiting) = mpsc::unbounded_channel();
        (Arc::new(Self { clusters: RwLock::default(), version: AtomicU64::new(0), found }), waiting)
    }

    /// Takes in an APIService as it was written.
    pub(crate) fn apply(&self, cluster: &ClusterName, object: &Object) {
        let name = object.meta().name.to_string();
        let value = object.to_value();
        let Some(backend) = Backend::read(cluster, &value) else { return self.remove(cluster, &name) };
        let mut clusters = self.clusters.write();
        let own = clusters.entry(cluster.clone()).or_default();
        // A change of its status alone makes no other of it.
        if own.get(&name).is_some_and(|known| known.same_as(&backend)) {
            return;
        }
        let backend = Arc::new(backend);
        if let Some(old) = own.insert(name, backend.clone()) {
            old.gone.cancel();
        }
        self.changed();
        // Nobody waits any more once the server stops.
        let _ = self.found.send(backend);
    }

    pub(crate) fn remove(&self, cluster: &ClusterName, name: &str) {
        let mut clusters = self.clusters.write();
        let Some(own) = clusters.get_mut(cluster) else { return };
        if let Some(old) = own.remove(name) {
            old.gone.cancel();
            self.changed();
        }
        if own.is_empty() {
            clusters.remove(cluster);
        }
    }

    pub(crate) fn retain(&self, keep: impl Fn(&ClusterName, &str) -> bool) {
        let known: Vec<(ClusterName, String)> =
            self.clusters.read().iter().flat_map(|(cluster, own)| own.keys().map(|name| (cluster.clone(), name.clone()))).collect();
        for (cluster, name) in known.iter().filter(|(cluster, name)| !keep(cluster, name)) {
            self.remove(cluster, name);
        }
    }

    /// Who answers for this group and version.
    pub(crate) fn find(&self, cluster: &ClusterName, group: &str, version: &str) -> Option<Arc<Backend>> {
        let clusters = self.clusters.read();
        let own = clusters.get(cluster)?;
        own.values().find(|backend| backend.group == group && backend.version == version).cloned()
    }

    /// All of a cluster's, those of the most important group first.
    pub(crate) fn all(&self, cluster: &ClusterName) -> Vec<Arc<Backend>> {
        let mut all: Vec<Arc<Backend>> = self.clusters.read().get(cluster).into_iter().flat_map(|own| own.values().cloned()).collect();
        all.sort_by(|a, b| {
            b.group_priority.cmp(&a.group_priority).then_with(|| a.group.cmp(&b.group)).then_with(|| b.version_priority.cmp(&a.version_priority))
        });
        all
    }

    /// Takes in what a look at it has found.
    fn take_state(&self, backend: &Backend, state: State) {
        if backend.set_state(state) {
            self.changed();
        }
    }

    fn changed(&self) {
        self.version.fetch_add(1, Ordering::Release);
    }

    /// Changes whenever what discovery says of a cluster's aggregated groups may; `None` when it has none.
    pub(crate) fn version(&self, cluster: &ClusterName) -> Option<u64> {
        self.clusters.read().contains_key(cluster).then(|| self.version.load(Ordering::Acquire))
    }
}
