//! PodTable: the pods that run here as their workers last saw them, and whose container is whose.
use crate::pod::worker::PodMessage;
use api_cache::ObjectKey;
use k8s_openapi::api::core::v1::Pod;
use parking_lot::RwLock;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

/// One pod.
#[derive(Clone, Debug)]
pub struct PodView {
    /// With the status the node computed, written to the API or not.
    pub pod: Arc<Pod>,
    /// Its running sandbox.
    pub sandbox: Option<String>,
}

/// Readable by all, written by the workers. Cheap to clone.
#[derive(Clone)]
pub struct PodTable {
    inner: Arc<Inner>,
}

struct Inner {
    pods: RwLock<BTreeMap<ObjectKey, PodView>>,
    /// Containers and sandboxes by id.
    owners: RwLock<HashMap<String, mpsc::UnboundedSender<PodMessage>>>,
    version: watch::Sender<u64>,
}

impl Default for PodTable {
    fn default() -> Self {
        Self { inner: Arc::new(Inner { pods: RwLock::default(), owners: RwLock::default(), version: watch::channel(0).0 }) }
    }
}

impl PodTable {
    pub fn get(&self, key: &ObjectKey) -> Option<PodView> {
        self.inner.pods.read().get(key).cloned()
    }

    /// All pods, with their keys.
    pub fn all(&self) -> Vec<(ObjectKey, PodView)> {
        self.inner.pods.read().iter().map(|(key, view)| (key.clone(), view.clone())).collect()
    }

    pub fn publish(&self, key: ObjectKey, view: PodView) {
        self.inner.pods.write().insert(key, view);
        self.inner.version.send_modify(|version| *version += 1);
    }

    /// Removes a pod, unless another of the same name took its place.
    pub fn remove(&self, key: &ObjectKey, uid: &str) {
        let mut pods = self.inner.pods.write();
        if pods.get(key).is_some_and(|view| view.pod.metadata.uid.as_deref() == Some(uid)) {
            pods.remove(key);
        }
        drop(pods);
        self.inner.version.send_modify(|version| *version += 1);
    }

    /// Changes with every `publish` and `remove`.
    pub fn versions(&self) -> watch::Receiver<u64> {
        self.inner.version.subscribe()
    }

    /// Says whose a container or sandbox is.
    pub fn own(&self, id: &str, owner: &mpsc::UnboundedSender<PodMessage>) {
        self.inner.owners.write().insert(id.to_owned(), owner.clone());
    }

    pub fn disown(&self, id: &str) {
        self.inner.owners.write().remove(id);
    }

    /// The worker of a container or sandbox.
    pub fn owner(&self, id: &str) -> Option<mpsc::UnboundedSender<PodMessage>> {
        self.inner.owners.read().get(id).cloned()
    }
}
