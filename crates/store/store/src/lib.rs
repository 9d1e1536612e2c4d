//! Store: revisioned transactions and watches over keys that start with their cluster.
//!
//! Any engine that passes [`suite`] will do; nothing above this crate knows which one runs.

mod compaction;
mod key;
mod record;
mod seal;
#[cfg(feature = "suite")]
pub mod suite;

pub use compaction::{CompactionPolicy, compact_periodically};
pub use key::{Key, Scope};
pub use record::{Event, Record};
pub use seal::{Seal, SealError};

use async_trait::async_trait;
use bytes::Bytes;
use std::sync::Arc;

/// A point in the store's single history. Every committed transaction takes the next one; all its keys share it.
///
/// INVARIANT: revisions never go down and are never reused, also across a restart.
pub type Revision = u64;

#[derive(Clone, Debug)]
pub enum Precondition {
    /// The key does not exist.
    Absent(Key),
    /// The key exists and was last written at this revision.
    AtRevision(Key, Revision),
    /// The key exists.
    Exists(Key),
}

#[derive(Clone, Debug)]
pub enum Op {
    /// Writes a value that carries no revision; readers get it stamped by the engine's [`Stamp`].
    Put { key: Key, value: Bytes },
    /// Deletes the key; deleting what isn't there changes nothing.
    Delete { key: Key },
}

#[derive(Clone, Debug, Default)]
pub struct Txn {
    pub preconditions: Vec<Precondition>,
    pub ops: Vec<Op>,
}

/// A transaction that is on disk and visible to every reader.
pub struct Committed {
    pub revision: Revision,
    /// One for each op that changed something, in the order of the ops.
    pub events: Vec<Arc<Event>>,
}

#[derive(Clone, Debug)]
pub struct RangeRequest {
    pub scope: Scope,
    /// Only keys greater than this one (the `continue` position).
    pub after: Option<String>,
    /// At most this many records; 0 for all.
    pub limit: usize,
    /// As of this revision; `None` for now.
    pub revision: Option<Revision>,
}

pub struct RangeResponse {
    /// In key order.
    pub records: Vec<Arc<Record>>,
    /// The revision the answer is true for.
    pub revision: Revision,
    /// How many records of the scope follow the last one returned.
    pub remaining: usize,
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A precondition failed; `current` is what the key holds instead.
    #[error("precondition failed on {key}")]
    PreconditionFailed { key: Key, current: Option<CurrentRecord> },
    #[error("revision {requested} is compacted; the oldest kept is {oldest}")]
    Compacted { requested: Revision, oldest: Revision },
    #[error("revision {requested} is in the future; the newest is {newest}")]
    Future { requested: Revision, newest: Revision },
    /// The watcher fell too far behind and was dropped; it has to list again.
    #[error("watcher is too slow")]
    Slow,
    #[error("store is closed")]
    Closed,
    #[error("store engine")]
    Engine(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A record inside an error.
#[derive(Clone)]
pub struct CurrentRecord(pub Arc<Record>);

impl std::fmt::Debug for CurrentRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.0.key, self.0.mod_revision)
    }
}

/// How an engine writes a revision into a value that readers will see (`api_meta::object::stamp`).
pub type Stamp = fn(&[u8], Revision) -> Bytes;

/// The events of a scope, in revision order, without gap or repeat; the last item is an error when it can't go on.
pub type WatchStream = tokio::sync::mpsc::Receiver<Result<Arc<Event>, StoreError>>;

#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Commits all of it or nothing. Returns once it is on disk and every later read sees it.
    async fn txn(&self, txn: Txn) -> Result<Committed, StoreError>;

    /// The newest revision.
    ///
    /// INVARIANT: every event up to it has already been handed to its watchers' streams.
    fn revision(&self) -> Revision;

    async fn get(&self, key: &Key) -> Result<Option<Arc<Record>>, StoreError>;

    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, StoreError>;

    /// Every event of the scope with a revision greater than `after`, then those to come.
    async fn watch(&self, scope: Scope, after: Revision) -> Result<WatchStream, StoreError>;

    /// Forgets history before `revision`: older ranges and watches fail with [`StoreError::Compacted`].
    ///
    /// Live records are never touched. Compacting what is compacted already does nothing;
    /// a revision that does not exist yet is [`StoreError::Future`].
    async fn compact(&self, revision: Revision) -> Result<(), StoreError>;

    /// The oldest revision a watch may start after.
    fn oldest(&self) -> Revision;
}
