//! Cache: a typed, indexed, always current copy of one kind's objects in all clusters.
use crate::source::{Selection, Source, SourceEvent};
use api_meta::ClusterName;
use futures::StreamExt;
use k8s_openapi::Metadata;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use parking_lot::RwLock;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use tokio::sync::{broadcast, watch};

/// An object's place: what work queues are keyed by. It never carries the event.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    pub cluster: ClusterName,
    /// Empty for cluster-scoped objects.
    pub namespace: Arc<str>,
    pub name: Arc<str>,
}

impl ObjectKey {
    pub fn new(cluster: &ClusterName, namespace: &str, name: &str) -> Self {
        Self { cluster: cluster.clone(), namespace: namespace.into(), name: name.into() }
    }
    pub fn of(cluster: &ClusterName, meta: &ObjectMeta) -> Self {
        Self::new(cluster, meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
    }
}

impl std::fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}/{}", self.cluster, self.namespace, self.name)
    }
}

/// A change a subscriber is told of, after the cache shows it.
#[derive(Debug)]
pub struct Change<K> {
    pub key: ObjectKey,
    /// `None` when it appeared.
    pub old: Option<Arc<K>>,
    /// `None` when it went.
    pub new: Option<Arc<K>>,
}

impl<K> Clone for Change<K> {
    fn clone(&self) -> Self {
        Self { key: self.key.clone(), old: self.old.clone(), new: self.new.clone() }
    }
}

/// Anything a cache can hold.
pub trait Cached: Metadata<Ty = ObjectMeta> + DeserializeOwned + Send + Sync + 'static {}
impl<K: Metadata<Ty = ObjectMeta> + DeserializeOwned + Send + Sync + 'static> Cached for K {}

type IndexFunction<K> = fn(&K) -> Vec<String>;

struct State<K> {
    /// Ordered, so that one cluster's or namespace's objects are a range.
    objects: BTreeMap<ObjectKey, Arc<K>>,
    indexes: Vec<(&'static str, IndexFunction<K>, HashMap<(ClusterName, String), BTreeSet<ObjectKey>>)>,
}

/// A live copy of one kind, in all clusters of its source.
pub struct Cache<K> {
    state: RwLock<State<K>>,
    changes: broadcast::Sender<Change<K>>,
    synced: watch::Sender<bool>,
}

/// How many changes a subscriber may lag before it is told to look at everything again.
const SUBSCRIBER_BACKLOG: usize = 4096;

impl<K: Cached> Cache<K> {
    /// Starts following; the cache fills in the background (`synced` waits for the first full list).
    pub fn start(source: &dyn Source, selection: Selection, indexes: &[(&'static str, IndexFunction<K>)]) -> Arc<Self> {
        let cache = Arc::new(Self {
            state: RwLock::new(State {
                objects: BTreeMap::new(),
                indexes: indexes.iter().map(|(name, function)| (*name, *function, HashMap::new())).collect(),
            }),
            changes: broadcast::channel(SUBSCRIBER_BACKLOG).0,
            synced: watch::channel(false).0,
        });
        let (weak, mut events) = (Arc::downgrade(&cache), source.follow(selection));
        tokio::spawn(async move {
            let mut listed: Option<BTreeSet<ObjectKey>> = None;
            while let Some(event) = events.next().await {
                // The last holder of the cache is gone: nobody looks any more.
                let Some(cache) = weak.upgrade() else { return };
                match event {
                    SourceEvent::Restart => listed = Some(BTreeSet::new()),
                    SourceEvent::Applied { cluster, object } => {
                        if let Some(key) = cache.apply(&cluster, &object)
                            && let Some(listed) = &mut listed
                        {
                            listed.insert(key);
                        }
                    }
                    SourceEvent::Deleted { cluster, object } => cache.delete(&cluster, &object),
                    SourceEvent::Listed => {
                        if let Some(listed) = listed.take() {
                            cache.retain(&listed);
                        }
                        cache.synced.send_replace(true);
                    }
                }
            }
        });
        cache
    }

    /// Waits until the first full list is in.
    pub async fn synced(&self) {
        let mut synced = self.synced.subscribe();
        // The sender lives in self, so waiting can't fail.
        let _ = synced.wait_for(|done| *done).await;
    }

    pub fn get(&self, key: &ObjectKey) -> Option<Arc<K>> {
        self.state.read().objects.get(key).cloned()
    }

    /// All objects of all clusters, with their keys.
    pub fn all(&self) -> Vec<(ObjectKey, Arc<K>)> {
        self.state.read().objects.iter().map(|(key, object)| (key.clone(), object.clone())).collect()
    }

    /// One cluster's objects, in one namespace or (`None`) in all, in name order.
    pub fn list(&self, cluster: &ClusterName, namespace: Option<&str>) -> Vec<Arc<K>> {
        let start = ObjectKey::new(cluster, namespace.unwrap_or_default(), "");
        let state = self.state.read();
        let range = state.objects.range(start..);
        range.take_while(|(key, _)| key.cluster == *cluster && namespace.is_none_or(|n| *key.namespace == *n)).map(|(_, object)| object.clone()).collect()
    }

    /// One cluster's objects whose index function gave this value.
    ///
    /// # Panics
    /// If no index of that name was given to `start`.
    pub fn by_index(&self, index: &str, cluster: &ClusterName, value: &str) -> Vec<Arc<K>> {
        let state = self.state.read();
        let (_, _, entries) = state.indexes.iter().find(|(name, ..)| *name == index).expect("an index asked for was declared");
        entries.get(&(cluster.clone(), value.to_owned())).into_iter().flatten().filter_map(|key| state.objects.get(key).cloned()).collect()
    }

    /// Changes from now on. On `RecvError::Lagged`, look at `all` again.
    pub fn subscribe(&self) -> broadcast::Receiver<Change<K>> {
        self.changes.subscribe()
    }

    pub fn len(&self) -> usize {
        self.state.read().objects.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn apply(&self, cluster: &ClusterName, bytes: &[u8]) -> Option<ObjectKey> {
        let object: Arc<K> = match serde_json::from_slice(bytes) {
            Ok(object) => Arc::new(object),
            Err(error) => {
                tracing::warn!(%cluster, %error, "an object could not be decoded and is left out of the cache");
                return None;
            }
        };
        let key = ObjectKey::of(cluster, object.metadata());
        let mut guard = self.state.write();
        let state = &mut *guard;
        let old = state.objects.insert(key.clone(), object.clone());
        let same = old.as_ref().is_some_and(|old| old.metadata().resource_version == object.metadata().resource_version);
        state.reindex(&key, old.as_deref(), Some(&object));
        drop(guard);
        if !same {
            self.tell(Change { key: key.clone(), old, new: Some(object) });
        }
        Some(key)
    }

    fn delete(&self, cluster: &ClusterName, bytes: &[u8]) {
        #[derive(serde::Deserialize)]
        struct Named {
            metadata: ObjectMeta,
        }
        if let Ok(named) = serde_json::from_slice::<Named>(bytes) {
            self.remove(&ObjectKey::of(cluster, &named.metadata));
        }
    }

    fn remove(&self, key: &ObjectKey) {
        let mut guard = self.state.write();
        let state = &mut *guard;
        let Some(old) = state.objects.remove(key) else { return };
        state.reindex(key, Some(&old), None);
        drop(guard);
        self.tell(Change { key: key.clone(), old: Some(old), new: None });
    }

    fn retain(&self, listed: &BTreeSet<ObjectKey>) {
        let gone: Vec<ObjectKey> = self.state.read().objects.keys().filter(|key| !listed.contains(*key)).cloned().collect();
        gone.iter().for_each(|key| self.remove(key));
    }

    fn tell(&self, change: Change<K>) {
        // An error only says that nobody subscribes.
        let _ = self.changes.send(change);
    }
}

impl<K> State<K> {
    fn reindex(&mut self, key: &ObjectKey, old: Option<&K>, new: Option<&K>) {
        for (_, function, entries) in &mut self.indexes {
            for value in old.map(|o| function(o)).unwrap_or_default() {
                let slot = (key.cluster.clone(), value);
                if let Some(keys) = entries.get_mut(&slot) {
                    keys.remove(key);
                    if keys.is_empty() {
                        entries.remove(&slot);
                    }
                }
            }
            for value in new.map(|n| function(n)).unwrap_or_default() {
                entries.entry((key.cluster.clone(), value)).or_default().insert(key.clone());
            }
        }
    }
}
