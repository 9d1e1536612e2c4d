//! Follows the definitions in the store: makes kinds of them, tells their state, empties those that go.
use super::finalize;
use super::names::All;
use super::registration;
use crate::context::Context;
use crate::stored::stored;
use crate::{ApiServer, Kind, Kinds, errors};
use api_custom::{GROUP, PLURAL, state};
use api_meta::{ClusterName, GroupResource, Status, object};
use api_resource::AnyResource;
use parking_lot::Mutex;
use serde_json::Value;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use store::{Key, Op, Precondition, RangeRequest, Record, Revision, Scope, Store, StoreError, Txn};
use tokio::sync::{mpsc, watch};

const RETRY: Duration = Duration::from_millis(100);
/// A writer of a definition waits no longer than this for it to take effect; that is in this process and takes microseconds.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(2);

fn resource() -> GroupResource {
    GroupResource::new(GROUP, PLURAL)
}

/// How far the definitions have been followed.
pub struct Definitions {
    seen: watch::Receiver<Revision>,
    sender: Mutex<Option<watch::Sender<Revision>>>,
}

impl Definitions {
    /// Waits until what was written to a definition at `revision` is what is served.
    pub async fn caught_up(&self, of: &GroupResource, revision: Revision) {
        if of.group != GROUP || of.resource != PLURAL {
            return;
        }
        // Either way the write stands. A follower that ended has seen the server stop.
        let _ = tokio::time::timeout(CATCH_UP_TIMEOUT, self.seen.clone().wait_for(|seen| *seen >= revision)).await;
    }
}

/// `{plural}.{group}`, the name of a definition.
fn parts(name: &str) -> Option<(&str, &str)> {
    name.split_once('.').filter(|(plural, group)| !plural.is_empty() && !group.is_empty())
}

fn take_in(kinds: &Kinds, key: &Key, value: &[u8], revision: Revision) {
    let (Ok(cluster), Some((plural, group))) = (ClusterName::parse(key.cluster()), parts(key.name())) else { return };
    if let Err(error) = kinds.custom.apply(&cluster, group, plural, value, revision) {
        tracing::error!(error = &error as &dyn std::error::Error, %key, "a stored definition can't be read; it is not served");
    }
}

/// Reads all definitions, so that the first request already finds its kind.
pub(crate) async fn load(store: &dyn Store, kinds: &Kinds) -> Result<Definitions, Status> {
    let revision = read_all(store, kinds).await.map_err(errors::from_store)?;
    let (sender, seen) = watch::channel(revision);
    Ok(Definitions { seen, sender: Mutex::new(Some(sender)) })
}

async fn read_all(store: &dyn Store, kinds: &Kinds) -> Result<Revision, StoreError> {
    let found = store.range(RangeRequest { scope: Scope::AllClusters(resource()), after: None, limit: 0, revision: None }).await?;
    let live: HashSet<&str> = found.records.iter().map(|record| record.key.as_str()).collect();
    for (cluster, definition) in kinds.custom.definitions() {
        if !live.contains(Key::new(&cluster, &resource(), "", &definition.name).as_str()) {
            kinds.custom.remove(&cluster, &definition.group, &definition.plural, found.revision);
        }
    }
    for record in &found.records {
        take_in(kinds, &record.key, &record.value, record.mod_revision);
    }
    Ok(found.revision)
}

/// Follows the definitions until the server stops.
pub(crate) async fn follow(server: Arc<ApiServer>) {
    let Some(seen) = server.definitions.sender.lock().take() else { return };
    let (work, waiting) = mpsc::unbounded_channel();
    // What was read at the start may have been left half-told by a server that stopped.
    for (cluster, definition) in server.kinds.custom.definitions() {
        // The receiver lives below.
        let _ = work.send(Key::new(&cluster, &resource(), "", &definition.name));
    }
    let follower = Follower { server: server.clone(), work: work.clone() };
    let teller = Arc::new(Teller { server: server.clone(), work, emptying: Mutex::default() });
    tokio::select! {
        () = follower.keep(seen) => {}
        () = teller.run(waiting) => {}
        () = server.shutdown.cancelled() => {}
    }
}

impl ApiServer {
    /// The definition of a custom kind must, when an object of it is committed, be as it is now: there, and not going.
    pub(crate) async fn definition_of(&self, context: &Context<'_>, kind: &Kind) -> Result<Option<Precondition>, Status> {
        let Kind::Custom(custom) = kind else { return Ok(None) };
        let names = custom.resource.names();
        let key = Key::new(context.cluster, &resource(), "", &format!("{}.{}", names.plural, names.group));
        let Some(record) = self.store.get(&key).await.map_err(errors::from_store)? else { return Err(Status::no_such_resource()) };
        if stored(&record).object.meta().deletion_timestamp.is_some() {
            let mut refusal = Status::method_not_allowed(&names.group, &names.plural, "create");
            refusal.message = "create not allowed while custom resource definition is terminating".into();
            return Err(refusal);
        }
        Ok(Some(Precondition::AtRevision(key, record.mod_revision)))
    }

    /// Takes in the definition of a resource that is asked for and not known, should the store have one.
    pub(crate) async fn look_for_definition(&self, cluster: &ClusterName, group: &str, plural: &str) -> Result<(), Status> {
        if !group.contains('.') || plural.contains('/') {
            return Ok(());
        }
        let key = Key::new(cluster, &resource(), "", &format!("{plural}.{group}"));
        if let Some(record) = self.store.get(&key).await.map_err(errors::from_store)? {
            take_in(&self.kinds, &record.key, &record.value, record.mod_revision);
        }
        Ok(())
    }
}

struct Follower {
    server: Arc<ApiServer>,
    work: mpsc::UnboundedSender<Key>,
}

impl Follower {
    async fn keep(&self, seen: watch::Sender<Revision>) {
        let (store, kinds) = (&*self.server.store, &self.server.kinds);
        let mut revision = *seen.borrow();
        loop {
            match self.events(&mut revision, &seen).await {
                StoreError::Closed => return,
                // Its place in the history is still there to go on from.
                StoreError::Slow => continue,
                error => tracing::warn!(error = &error as &dyn std::error::Error, "following the definitions broke off; reading them again"),
            }
            match read_all(store, kinds).await {
                Ok(newest) => {
                    revision = newest;
                    seen.send_replace(revision);
                    for (cluster, definition) in kinds.custom.definitions() {
                        let _ = self.work.send(Key::new(&cluster, &resource(), "", &definition.name));
                    }
                }
                Err(StoreError::Closed) => return,
                Err(_) => tokio::time::sleep(RETRY).await,
            }
        }
    }

    /// Takes in events until the stream of them ends; gives why it did.
    async fn events(&self, revision: &mut Revision, seen: &watch::Sender<Revision>) -> StoreError {
        let mut events = match self.server.store.watch(Scope::AllClusters(resource()), *revision).await {
            Ok(events) => events,
            Err(error) => return error,
        };
        loop {
            match events.recv().await {
                Some(Ok(event)) => {
                    *revision = event.revision;
                    let key = &event.record.key;
                    if !event.deleted {
                        take_in(&self.server.kinds, key, &event.record.value, event.revision);
                    } else if let (Ok(cluster), Some((plural, group))) = (ClusterName::parse(key.cluster()), parts(key.name())) {
                        self.server.kinds.custom.remove(&cluster, group, plural, event.revision);
                    }
                    seen.send_replace(event.revision);
                    // The teller ends only with the server.
                    let _ = self.work.send(key.clone());
                }
                Some(Err(error)) => return error,
                None => return StoreError::Closed,
            }
        }
    }
}

/// Tells the state of definitions in their status.
struct Teller {
    server: Arc<ApiServer>,
    work: mpsc::UnboundedSender<Key>,
    /// The definitions whose objects are being deleted.
    emptying: Mutex<HashSet<Key>>,
}

impl Teller {
    async fn run(self: &Arc<Self>, mut waiting: mpsc::UnboundedReceiver<Key>) {
        while let Some(key) = waiting.recv().await {
            let told = match self.tell(&key).await {
                Ok(()) => self.register(&key).await,
                Err(error) => Err(error),
            };
            match told {
                Ok(()) | Err(StoreError::Closed) => {}
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, %key, "telling the state of a definition failed; trying again");
                    let work = self.work.clone();
                    tokio::spawn(async move {
                        tokio::time::sleep(RETRY).await;
                        // The teller ends only with the server.
                        let _ = work.send(key);
                    });
                }
            }
        }
    }

    async fn tell(self: &Arc<Self>, key: &Key) -> Result<(), StoreError> {
        let (Ok(cluster), Some((plural, group))) = (ClusterName::parse(key.cluster()), parts(key.name())) else { return Ok(()) };
        loop {
            let Some(record) = self.server.store.get(key).await? else {
                self.tell_others(&cluster, group, plural);
                return Ok(());
            };
            let object = stored(&record).object.to_value();
            if self.server.kinds.custom.definition(&cluster, group, plural).is_some_and(|(definition, _)| definition.going) {
                self.empty(key, &cluster);
                return Ok(());
            }
            let now = self.server.clock.now();
            let builtins: Vec<&'static dyn AnyResource> = self.server.kinds.builtins_of(group).collect();
            let violations = api_builtins::structural_violations(&object);
            let status = self
                .server
                .kinds
                .custom
                .with_names(&cluster, group, |definitions| state::status(&object, &All { definitions, builtins: &builtins }, &violations, now));
            if status == object["status"] {
                return Ok(());
            }
            match self.write(&record, object, status).await {
                Ok(()) => {
                    self.tell_others(&cluster, group, plural);
                    return Ok(());
                }
                // It was changed meanwhile: look at what it is now.
                Err(StoreError::PreconditionFailed { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }

    async fn register(&self, key: &Key) -> Result<(), StoreError> {
        let (Ok(cluster), Some((_, group))) = (ClusterName::parse(key.cluster()), parts(key.name())) else { return Ok(()) };
        registration::register(&self.server, &cluster, group).await
    }

    /// Names that came free may be what others wait for.
    fn tell_others(&self, cluster: &ClusterName, group: &str, plural: &str) {
        for other in self.server.kinds.custom.refused(cluster, group).into_iter().filter(|other| other != plural) {
            // The teller ends only with the server.
            let _ = self.work.send(Key::new(cluster, &resource(), "", &format!("{other}.{group}")));
        }
    }

    async fn write(&self, record: &Record, object: Value, status: Value) -> Result<(), StoreError> {
        let committed = write_status(&self.server, record, object, status).await?;
        self.server.definitions.caught_up(&resource(), committed).await;
        Ok(())
    }

    /// Deletes the objects of a definition that goes, then lets it go.
    fn empty(self: &Arc<Self>, key: &Key, cluster: &ClusterName) {
        if !self.emptying.lock().insert(key.clone()) {
            return;
        }
        let (teller, key, cluster) = (self.clone(), key.clone(), cluster.clone());
        tokio::spawn(async move {
            let done = finalize::empty(&teller.server, &cluster, &key);
            tokio::select! {
                () = done => {}
                () = teller.server.shutdown.cancelled() => {}
            }
            teller.emptying.lock().remove(&key);
        });
    }
}

/// Writes a definition's status if it is still as it was read; gives the revision.
pub(super) async fn write_status(server: &ApiServer, record: &Record, mut object: Value, status: Value) -> Result<Revision, StoreError> {
    object["status"] = status;
    let value = object::encode(object.as_object().expect("a stored object"));
    // Served from the moment on that anybody can read that it is.
    let next = object::stamp(&value, record.mod_revision);
    take_in(&server.kinds, &record.key, &next, record.mod_revision);
    let txn =
        Txn { preconditions: vec![Precondition::AtRevision(record.key.clone(), record.mod_revision)], ops: vec![Op::Put { key: record.key.clone(), value }] };
    match server.store.txn(txn).await {
        Ok(committed) => Ok(committed.revision),
        Err(error) => {
            take_in(&server.kinds, &record.key, &record.value, record.mod_revision);
            Err(error)
        }
    }
}
