//! Records and events: what the store holds and what it tells its watchers.
use crate::{Key, Revision};
use bytes::Bytes;
use std::any::Any;
use std::sync::{Arc, OnceLock};

/// One key's value at one revision, shared by everyone who reads it.
pub struct Record {
    pub key: Key,
    /// The revision that created the key (it survives updates).
    pub create_revision: Revision,
    /// The revision that wrote this value.
    pub mod_revision: Revision,
    /// The value as readers see it: already stamped with `mod_revision`.
    pub value: Bytes,
    memo: OnceLock<Box<dyn Any + Send + Sync>>,
}

impl Record {
    pub fn new(key: Key, create_revision: Revision, mod_revision: Revision, value: Bytes) -> Arc<Self> {
        Arc::new(Self { key, create_revision, mod_revision, value, memo: OnceLock::new() })
    }
    /// What a layer above has worked out from this value, worked out once and kept as long as the record.
    ///
    /// # Panics
    /// If two callers ask for different types: one memo belongs to one layer.
    pub fn memo<T: Any + Send + Sync>(&self, make: impl FnOnce(&Self) -> T) -> &T {
        self.memo.get_or_init(|| Box::new(make(self))).downcast_ref().expect("a record's memo has one type")
    }
}

/// One change of one key.
pub struct Event {
    pub revision: Revision,
    /// The new value; for a deletion, the last value stamped with the deletion's revision.
    pub record: Arc<Record>,
    /// The value before; `None` for a creation.
    pub previous: Option<Arc<Record>>,
    pub deleted: bool,
    memo: OnceLock<Box<dyn Any + Send + Sync>>,
}

impl Event {
    pub fn new(revision: Revision, record: Arc<Record>, previous: Option<Arc<Record>>, deleted: bool) -> Arc<Self> {
        Arc::new(Self { revision, record, previous, deleted, memo: OnceLock::new() })
    }
    /// As [`Record::memo`]: an event is encoded once for all its watchers.
    pub fn memo<T: Any + Send + Sync>(&self, make: impl FnOnce(&Self) -> T) -> &T {
        self.memo.get_or_init(|| Box::new(make(self))).downcast_ref().expect("an event's memo has one type")
    }
}
