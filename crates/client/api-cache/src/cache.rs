//! Cache: a typed, indexed, always current copy of one kind's objects in all clusters.
use crate::index::{Index, IndexFunction};
use crate::source::{Selection, Source, SourceEvent};
use crate::tally::{Counted, Sums, Tally};
use api_meta::{ClusterName, without_managed_fields};
use futures::StreamExt;
use k8s_openapi::Metadata;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use parking_lot::{Mutex, RwLock};
use serde::de::DeserializeOwned;
use std::any::Any;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, OnceLock, Weak};
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
pub trait Cached: Metadata<Ty = ObjectMeta> + DeserializeOwned + Clone + Send + Sync + 'static {}
impl<K: Metadata<Ty = ObjectMeta> + DeserializeOwned + Clone + Send + Sync + 'static> Cached for K {}

struct State<K> {
    /// Ordered, so that one cluster's or namespace's objects are a range.
    objects: BTreeMap<ObjectKey, Arc<K>>,
    indexes: Vec<Index<K>>,
    tallies: Vec<Box<dyn Counted<K>>>,
    /// The newest resourceVersion the source has told of. Own writes up to it have been told already.
    revision: u64,
    /// Objects this process deleted whose deletion the source has not told yet: key and uid.
    tombstones: HashMap<ObjectKey, String>,
    /// Own writes made while a full list comes in; they count once it is complete.
    held: Option<Vec<(ObjectKey, Arc<K>)>>,
}

type Listener<K> = Box<dyn Fn(&Change<K>) + Send + Sync>;

struct Listeners<K> {
    next: u64,
    all: Vec<(u64, Listener<K>)>,
}

/// A live copy of one kind, in all clusters of its source. Its objects lack their managed fields.
///
/// A process that writes tells the cache what the server answered (`wrote`, `removed`), so that it
/// reads its own writes: whoever decides from this cache can't do the same thing twice.
pub struct Cache<K> {
    state: RwLock<State<K>>,
    /// INVARIANT: held from before a change is made until every listener knows of it, so that all
    /// learn of an object's changes in their order.
    listeners: Mutex<Listeners<K>>,
    /// Made by the first subscriber: most caches have listeners only, and a channel's slots cost memory.
    changes: OnceLock<broadcast::Sender<Change<K>>>,
    synced: watch::Sender<bool>,
}

/// Waits until the cache whose state this tells is dropped.
async fn is_dropped(synced: &mut watch::Receiver<bool>) {
    while synced.changed().await.is_ok() {}
}

/// Keeps a listener in place; dropping it ends the listening.
pub struct Listening {
    remove: Option<Box<dyn FnOnce() + Send + Sync>>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        if let Some(remove) = self.remove.take() {
            remove();
        }
    }
}

/// How many changes a subscriber may lag before it is told to look at everything again.
const SUBSCRIBER_BACKLOG: usize = 4096;

impl<K: Cached> Cache<K> {
    /// Starts following; the cache fills in the background (`synced` waits for the first full list).
    pub fn start(source: &dyn Source, selection: Selection, indexes: &[(&'static str, IndexFunction<K>)]) -> Arc<Self> {
        let cache = Arc::new(Self {
            state: RwLock::new(State {
                objects: BTreeMap::new(),
                indexes: indexes.iter().map(|(name, function)| Index::new(name, *function)).collect(),
                tallies: Vec::new(),
                revision: 0,
                tombstones: HashMap::new(),
                held: None,
            }),
            listeners: Mutex::new(Listeners { next: 0, all: Vec::new() }),
            changes: OnceLock::new(),
            synced: watch::channel(false).0,
        });
        let (weak, mut events) = (Arc::downgrade(&cache), source.follow(selection));
        let mut synced = cache.synced.subscribe();
        tokio::spawn(async move {
            let mut listed: Option<BTreeSet<ObjectKey>> = None;
            loop {
                let event = tokio::select! {
                    event = events.next() => event,
                    () = is_dropped(&mut synced) => None,
                };
                // The last holder of the cache is gone: nobody looks any more, and the source need not go on.
                let (Some(event), Some(cache)) = (event, weak.upgrade()) else { return };
                match event {
                    SourceEvent::Restart => {
                        listed = Some(BTreeSet::new());
                        cache.restart();
                    }
                    SourceEvent::Applied { cluster, object } => {
                        if let Some(key) = cache.apply(&cluster, &object, listed.is_some())
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
                        cache.release_held();
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
        let index = state.indexes.iter().find(|other| other.name == index).expect("an index asked for was declared");
        index.of(cluster, value).cloned().collect()
    }

    /// Changes from now on. On `RecvError::Lagged`, look at `all` again.
    pub fn subscribe(&self) -> broadcast::Receiver<Change<K>> {
        self.changes.get_or_init(|| broadcast::channel(SUBSCRIBER_BACKLOG).0).subscribe()
    }

    /// Calls `listener` for every object there is (as appeared) and then for every change, in order and
    /// without loss, until the returned guard is dropped. It runs inside the change: it must be quick,
    /// and must not write to this cache.
    #[must_use = "dropping the guard ends the listening"]
    pub fn listen(self: &Arc<Self>, listener: impl Fn(&Change<K>) + Send + Sync + 'static) -> Listening {
        let mut listeners = self.listeners.lock();
        for (key, object) in self.all() {
            listener(&Change { key, old: None, new: Some(object) });
        }
        let id = listeners.next;
        listeners.next += 1;
        listeners.all.push((id, Box::new(listener)));
        drop(listeners);
        let weak: Weak<Self> = Arc::downgrade(self);
        let remove = move || {
            if let Some(cache) = weak.upgrade() {
                let gone = {
                    let mut listeners = cache.listeners.lock();
                    let at = listeners.all.iter().position(|(other, _)| *other == id);
                    at.map(|at| listeners.all.swap_remove(at))
                };
                // Dropped outside the lock: what it captured may end other listenings.
                drop(gone);
            }
        };
        Listening { remove: Some(Box::new(remove)) }
    }

    /// Adds an index over what is there and what comes. Adding the same name again changes nothing.
    pub fn add_index(&self, name: &'static str, function: IndexFunction<K>) {
        let mut guard = self.state.write();
        let state = &mut *guard;
        if state.indexes.iter().any(|other| other.name == name) {
            return;
        }
        let mut index = Index::new(name, function);
        for (key, object) in &state.objects {
            index.change(key, None, Some(object));
        }
        state.indexes.push(index);
    }

    /// Keeps a tally by these values, over what is there and what comes. Adding the same again changes nothing.
    pub fn add_tally<T: Tally<K>>(&self, function: IndexFunction<K>) {
        let mut guard = self.state.write();
        let state = &mut *guard;
        if state.sums::<T>().is_some() {
            return;
        }
        let mut sums = Sums::<K, T>::new(function);
        for (key, object) in &state.objects {
            sums.change(key, None, Some(object));
        }
        state.tallies.push(Box::new(sums));
    }

    /// What one cluster's objects of this value come to.
    ///
    /// # Panics
    /// If no such tally was added.
    pub fn tally<T: Tally<K>>(&self, cluster: &ClusterName, value: &str) -> T {
        self.state.read().sums::<T>().expect("a tally asked for was added").of(cluster, value)
    }

    /// Takes in what the server answered to a write of this process, unless the source told it already; gives it as it is kept.
    pub fn wrote(&self, cluster: &ClusterName, object: K) -> Arc<K> {
        let (key, object) = (ObjectKey::of(cluster, object.metadata()), kept(object));
        self.take_own(key, object.clone());
        object
    }

    fn take_own(&self, key: ObjectKey, object: Arc<K>) {
        let listeners = self.listeners.lock();
        let mut guard = self.state.write();
        let state = &mut *guard;
        if let Some(held) = &mut state.held {
            held.push((key, object));
            return;
        }
        let Some(change) = state.take_own(key, object) else { return };
        drop(guard);
        self.tell(&listeners, change);
    }

    /// Takes in that this process deleted the object of this uid for good.
    pub fn removed(&self, key: &ObjectKey, uid: &str) {
        let listeners = self.listeners.lock();
        let mut guard = self.state.write();
        let state = &mut *guard;
        if state.objects.get(key).is_none_or(|object| object.metadata().uid.as_deref() != Some(uid)) {
            return;
        }
        state.tombstones.insert(key.clone(), uid.to_owned());
        let Some(change) = state.take_out(key) else { return };
        drop(guard);
        self.tell(&listeners, change);
    }

    pub fn len(&self) -> usize {
        self.state.read().objects.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn restart(&self) {
        let mut state = self.state.write();
        state.held = Some(Vec::new());
        state.tombstones.clear();
        // A store put back from a backup counts from an earlier revision.
        state.revision = 0;
    }

    /// The list is complete: own writes made meanwhile count, unless the list had them or later ones.
    fn release_held(&self) {
        let held = self.state.write().held.take().unwrap_or_default();
        for (key, object) in held {
            self.take_own(key, object);
        }
    }

    fn apply(&self, cluster: &ClusterName, bytes: &[u8], listing: bool) -> Option<ObjectKey> {
        let object: Arc<K> = match serde_json::from_slice(&without_managed_fields(bytes)) {
            Ok(object) => kept(object),
            Err(error) => {
                tracing::warn!(%cluster, %error, "an object could not be decoded and is left out of the cache");
                return None;
            }
        };
        let key = ObjectKey::of(cluster, object.metadata());
        let listeners = self.listeners.lock();
        let mut guard = self.state.write();
        let state = &mut *guard;
        state.revision = state.revision.max(revision(&*object));
        if state.tombstones.get(&key).is_some_and(|uid| object.metadata().uid.as_ref() == Some(uid)) {
            return Some(key);
        }
        if let Some(have) = state.objects.get(&key) {
            let newer = !listing && revision(&**have) > revision(&*object);
            if newer || have.metadata().resource_version == object.metadata().resource_version {
                return Some(key);
            }
        }
        let change = state.put(key.clone(), object);
        drop(guard);
        self.tell(&listeners, change);
        Some(key)
    }

    fn delete(&self, cluster: &ClusterName, bytes: &[u8]) {
        #[derive(serde::Deserialize)]
        struct Named {
            metadata: ObjectMeta,
        }
        let Ok(Named { metadata }) = serde_json::from_slice::<Named>(bytes) else { return };
        let key = ObjectKey::of(cluster, &metadata);
        let listeners = self.listeners.lock();
        let mut guard = self.state.write();
        let state = &mut *guard;
        let told_at = metadata.resource_version.as_deref().and_then(|v| v.parse().ok()).unwrap_or_default();
        state.revision = state.revision.max(told_at);
        if state.tombstones.get(&key).is_some_and(|uid| metadata.uid.as_ref() == Some(uid)) {
            state.tombstones.remove(&key);
        }
        // An own write may already have put its successor in its place. What leaves the selection as another object takes the one before with it.
        if state.objects.get(&key).is_some_and(|have| metadata.uid.is_some() && have.metadata().uid != metadata.uid && revision(&**have) > told_at) {
            return;
        }
        let Some(change) = state.take_out(&key) else { return };
        drop(guard);
        self.tell(&listeners, change);
    }

    fn retain(&self, listed: &BTreeSet<ObjectKey>) {
        let gone: Vec<ObjectKey> = self.state.read().objects.keys().filter(|key| !listed.contains(*key)).cloned().collect();
        for key in gone {
            let listeners = self.listeners.lock();
            let change = self.state.write().take_out(&key);
            if let Some(change) = change {
                self.tell(&listeners, change);
            }
        }
    }

    fn tell(&self, listeners: &Listeners<K>, change: Change<K>) {
        for (_, listener) in &listeners.all {
            listener(&change);
        }
        if let Some(changes) = self.changes.get() {
            // An error only says that nobody subscribes.
            let _ = changes.send(change);
        }
    }
}

/// An object's resourceVersion as a number; 0 when it has none.
fn revision<K: Metadata<Ty = ObjectMeta>>(object: &K) -> u64 {
    object.metadata().resource_version.as_deref().and_then(|v| v.parse().ok()).unwrap_or_default()
}

impl<K: Metadata<Ty = ObjectMeta> + 'static> State<K> {
    /// An own write, if it is news: newer than all the source told of and than what is here.
    fn take_own(&mut self, key: ObjectKey, object: Arc<K>) -> Option<Change<K>> {
        let written = revision(&*object);
        let news = written > self.revision && self.objects.get(&key).is_none_or(|have| revision(&**have) < written);
        news.then(|| self.put(key, object))
    }
}

impl<K: 'static> State<K> {
    fn sums<T: Tally<K>>(&self) -> Option<&Sums<K, T>> {
        self.tallies.iter().find_map(|tally| (&**tally as &dyn Any).downcast_ref())
    }

    fn put(&mut self, key: ObjectKey, object: Arc<K>) -> Change<K> {
        let key = match self.objects.get_key_value(&key) {
            Some((have, _)) => have.clone(),
            None => self.beside_neighbours(key),
        };
        let old = self.objects.insert(key.clone(), object.clone());
        self.reindex(&key, old.as_ref(), Some(&object));
        Change { key, old, new: Some(object) }
    }

    fn take_out(&mut self, key: &ObjectKey) -> Option<Change<K>> {
        let (key, old) = self.objects.remove_entry(key)?;
        self.reindex(&key, Some(&old), None);
        Some(Change { key, old: Some(old), new: None })
    }

    fn reindex(&mut self, key: &ObjectKey, old: Option<&Arc<K>>, new: Option<&Arc<K>>) {
        for index in &mut self.indexes {
            index.change(key, old, new);
        }
        for tally in &mut self.tallies {
            tally.change(key, old.map(|object| &**object), new.map(|object| &**object));
        }
    }

    /// The same key, with the names of cluster and namespace that the keys next to it have: most objects have such neighbours.
    fn beside_neighbours(&self, mut key: ObjectKey) -> ObjectKey {
        for (near, _) in self.objects.range(..&key).next_back().into_iter().chain(self.objects.range(&key..).next()) {
            if near.cluster == key.cluster {
                key.cluster = near.cluster.clone();
                if near.namespace == key.namespace {
                    key.namespace = near.namespace.clone();
                    break;
                }
            }
        }
        key
    }
}

/// An object as it is kept. Lists grow by halves while they are read; a copy is as large as it has to be.
fn kept<K: Cached>(mut object: K) -> Arc<K> {
    object.metadata_mut().managed_fields = None;
    Arc::new(object.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::stream::BoxStream;
    use k8s_openapi::api::core::v1::ConfigMap;
    use tokio::sync::mpsc;

    struct Scripted(Mutex<Option<mpsc::UnboundedReceiver<SourceEvent>>>);

    impl Source for Scripted {
        fn follow(&self, _: Selection) -> BoxStream<'static, SourceEvent> {
            let receiver = self.0.lock().take().expect("one cache follows");
            futures::stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) }).boxed()
        }
    }

    fn start() -> (mpsc::UnboundedSender<SourceEvent>, Arc<Cache<ConfigMap>>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (sender, Cache::start(&Scripted(Mutex::new(Some(receiver))), Selection::of::<ConfigMap>("configmaps"), &[]))
    }

    #[tokio::test]
    async fn a_source_ends_with_its_cache() {
        let (sender, cache) = start();
        sender.send(SourceEvent::Listed).unwrap();
        cache.synced().await;
        assert!(!sender.is_closed());
        drop(cache);
        tokio::time::timeout(std::time::Duration::from_secs(30), sender.closed()).await.expect("nobody follows any more");
    }

    fn map(name: &str, uid: &str, revision: u64) -> ConfigMap {
        let metadata = ObjectMeta {
            name: Some(name.into()),
            namespace: Some("n".into()),
            uid: Some(uid.into()),
            resource_version: Some(revision.to_string()),
            labels: Some([("uid".to_owned(), uid.to_owned())].into()),
            ..Default::default()
        };
        ConfigMap { metadata, ..Default::default() }
    }

    fn applied(name: &str, uid: &str, revision: u64) -> SourceEvent {
        SourceEvent::Applied { cluster: ClusterName::root(), object: serde_json::to_vec(&map(name, uid, revision)).unwrap().into() }
    }

    fn deleted(name: &str, uid: &str, revision: u64) -> SourceEvent {
        SourceEvent::Deleted { cluster: ClusterName::root(), object: serde_json::to_vec(&map(name, uid, revision)).unwrap().into() }
    }

    /// Name and revision of all there is, once the source's events so far are in.
    async fn shown(sender: &mpsc::UnboundedSender<SourceEvent>, cache: &Arc<Cache<ConfigMap>>) -> String {
        let marker = format!("zz{}", cache.state.read().revision);
        let mut changes = cache.subscribe();
        sender.send(applied(&marker, "marker", 1)).unwrap();
        sender.send(deleted(&marker, "marker", 1)).unwrap();
        while changes.recv().await.unwrap().new.is_some() || cache.get(&ObjectKey::new(&ClusterName::root(), "n", &marker)).is_some() {}
        cache.all().iter().map(|(key, object)| format!("{}@{}", key.name, revision(&**object))).collect::<Vec<_>>().join(" ")
    }

    #[tokio::test]
    async fn own_writes_show_at_once_and_stale_news_does_not_undo_them() {
        let (sender, cache) = start();
        for event in [SourceEvent::Restart, applied("a", "1", 5), SourceEvent::Listed] {
            sender.send(event).unwrap();
        }
        cache.synced().await;
        let root = ClusterName::root();
        cache.wrote(&root, map("a", "1", 9));
        cache.wrote(&root, map("b", "2", 10));
        assert_eq!(shown(&sender, &cache).await, "a@9 b@10");
        sender.send(applied("a", "1", 7)).unwrap();
        assert_eq!(shown(&sender, &cache).await, "a@9 b@10");
        for event in [applied("a", "1", 9), applied("b", "2", 10), deleted("b", "2", 11)] {
            sender.send(event).unwrap();
        }
        assert_eq!(shown(&sender, &cache).await, "a@9");
        // The answer to the create comes after the source told of the deletion.
        cache.wrote(&root, map("b", "2", 10));
        assert_eq!(shown(&sender, &cache).await, "a@9");
    }

    #[tokio::test]
    async fn own_deletions_last_until_the_source_tells_them() {
        let (sender, cache) = start();
        for event in [SourceEvent::Restart, applied("a", "1", 5), SourceEvent::Listed] {
            sender.send(event).unwrap();
        }
        cache.synced().await;
        let (root, key) = (ClusterName::root(), ObjectKey::new(&ClusterName::root(), "n", "a"));
        cache.removed(&key, "other");
        assert!(cache.get(&key).is_some());
        cache.removed(&key, "1");
        sender.send(applied("a", "1", 6)).unwrap();
        assert_eq!(shown(&sender, &cache).await, "");
        cache.wrote(&root, map("a", "2", 9));
        sender.send(deleted("a", "1", 8)).unwrap();
        assert_eq!(shown(&sender, &cache).await, "a@9");
    }

    #[tokio::test]
    async fn what_leaves_the_selection_as_another_object_is_gone() {
        let (sender, cache) = start();
        for event in [SourceEvent::Restart, applied("a", "1", 5), SourceEvent::Listed, deleted("a", "2", 6)] {
            sender.send(event).unwrap();
        }
        cache.synced().await;
        assert_eq!(shown(&sender, &cache).await, "");
    }

    #[tokio::test]
    async fn own_writes_during_a_list_survive_it() {
        let (sender, cache) = start();
        for event in [SourceEvent::Restart, applied("a", "1", 5)] {
            sender.send(event).unwrap();
        }
        assert_eq!(shown(&sender, &cache).await, "a@5");
        cache.wrote(&ClusterName::root(), map("b", "2", 6));
        sender.send(SourceEvent::Listed).unwrap();
        cache.synced().await;
        assert_eq!(shown(&sender, &cache).await, "a@5 b@6");
    }

    #[tokio::test]
    async fn listeners_hear_of_all_until_dropped_and_indexes_may_come_late() {
        let (sender, cache) = start();
        for event in [SourceEvent::Restart, applied("a", "1", 5), SourceEvent::Listed] {
            sender.send(event).unwrap();
        }
        cache.synced().await;
        let heard = Arc::new(Mutex::new(Vec::new()));
        let listening = cache.listen({
            let heard = heard.clone();
            move |change| heard.lock().push(format!("{}{}", if change.new.is_some() { "+" } else { "-" }, change.key.name))
        });
        cache.wrote(&ClusterName::root(), map("b", "2", 6));
        cache.removed(&ObjectKey::new(&ClusterName::root(), "n", "a"), "1");
        assert_eq!(*heard.lock(), ["+a", "+b", "-a"]);
        drop(listening);
        cache.wrote(&ClusterName::root(), map("c", "3", 7));
        assert_eq!(heard.lock().len(), 3);
        cache.add_index("uid", |map| map.metadata.labels.iter().flatten().map(|(_, v)| v.clone()).collect());
        assert_eq!(cache.by_index("uid", &ClusterName::root(), "2").len(), 1);
        cache.wrote(&ClusterName::root(), map("d", "4", 8));
        assert_eq!(cache.by_index("uid", &ClusterName::root(), "4").len(), 1);
    }

    /// How many there are, and what their revisions come to.
    #[derive(Clone, Debug, Default, PartialEq)]
    struct Sum(u64, u64);

    impl Tally<ConfigMap> for Sum {
        fn add(&mut self, map: &ConfigMap) {
            *self = Self(self.0 + 1, self.1 + revision(map));
        }
        fn remove(&mut self, map: &ConfigMap) {
            *self = Self(self.0 - 1, self.1 - revision(map));
        }
        fn is_empty(&self) -> bool {
            self.0 == 0
        }
    }

    #[tokio::test]
    async fn tallies_and_indexes_follow_every_change() {
        let (sender, cache) = start();
        for event in [SourceEvent::Restart, applied("a", "1", 5), applied("b", "2", 6), SourceEvent::Listed] {
            sender.send(event).unwrap();
        }
        cache.synced().await;
        let root = ClusterName::root();
        let parity: IndexFunction<ConfigMap> = |map| vec![format!("{}", revision(map) % 2), "all".into()];
        cache.add_tally::<Sum>(parity);
        cache.add_index("parity", parity);
        let shown = |value: &str| {
            let names: Vec<String> =
                cache.by_index("parity", &root, value).iter().map(|map| format!("{}{}", map.metadata.name.as_deref().unwrap(), revision(&**map))).collect();
            (cache.tally::<Sum>(&root, value), names.join(" "))
        };
        assert_eq!((shown("1"), shown("0"), shown("all")), ((Sum(1, 5), "a5".into()), (Sum(1, 6), "b6".into()), (Sum(2, 11), "a5 b6".into())));
        cache.wrote(&root, map("a", "1", 9));
        assert_eq!((shown("1"), shown("all")), ((Sum(1, 9), "a9".into()), (Sum(2, 15), "a9 b6".into())));
        cache.wrote(&root, map("a", "1", 10));
        assert_eq!((shown("1"), shown("0")), ((Sum::default(), String::new()), (Sum(2, 16), "a10 b6".into())));
        cache.removed(&ObjectKey::new(&root, "n", "b"), "2");
        assert_eq!((shown("0"), shown("all")), ((Sum(1, 10), "a10".into()), (Sum(1, 10), "a10".into())));
        assert_eq!(cache.tally::<Sum>(&ClusterName::parse("other").unwrap(), "all"), Sum::default());
        assert!(cache.by_index("parity", &ClusterName::parse("other").unwrap(), "all").is_empty());
    }

    #[tokio::test]
    async fn what_is_kept_has_no_managed_fields_and_shares_the_names_of_places() {
        let (_sender, cache) = start();
        let root = ClusterName::root();
        let mut written = map("a", "1", 9);
        written.metadata.managed_fields = Some(vec![Default::default()]);
        assert_eq!(cache.wrote(&root, written).metadata.managed_fields, None);
        cache.wrote(&root, map("b", "2", 10));
        let [(a, _), (b, _)] = &cache.all()[..] else { panic!() };
        assert!(Arc::ptr_eq(&a.namespace, &b.namespace));
    }
}
