//! Base: one record as a cluster sees it, and what a transaction means where the base lies below.
use crate::hidden::{self, is_hidden};
use api_meta::ClusterName;
use std::sync::Arc;
use store::{CurrentRecord, Key, Op, Precondition, Record, StoreError};

/// What lies at a key: the cluster's own record, which may be a mark, above the base's.
#[derive(Clone, Default)]
pub(crate) struct Layers {
    pub own: Option<Arc<Record>>,
    pub base: Option<Arc<Record>>,
}

/// A base record as if it were the cluster's own.
pub(crate) fn seen_as(record: &Record, key: Key) -> Arc<Record> {
    Record::new(key, record.create_revision, record.mod_revision, record.value.clone())
}

/// The key in another cluster.
pub(crate) fn moved(key: &Key, cluster: &ClusterName) -> Key {
    Key::new(cluster, &api_meta::GroupResource::new(key.group(), key.resource()), key.namespace(), key.name())
}

impl Layers {
    /// What the cluster sees at `key`.
    pub fn visible(&self, key: &Key) -> Option<Arc<Record>> {
        match (&self.own, &self.base) {
            (Some(own), _) => (!is_hidden(own)).then(|| own.clone()),
            (None, base) => base.as_ref().map(|base| seen_as(base, key.clone())),
        }
    }

    fn refusal(&self, key: &Key) -> StoreError {
        StoreError::PreconditionFailed { key: key.clone(), current: self.visible(key).map(CurrentRecord) }
    }

    /// The precondition on the cluster's own record that says the same of what it sees.
    pub fn precondition(&self, asked: Precondition) -> Result<Precondition, StoreError> {
        Ok(match (asked, &self.own, &self.base) {
            (Precondition::Absent(key), Some(own), _) if is_hidden(own) => Precondition::AtRevision(key, own.mod_revision),
            (Precondition::Absent(key), None, Some(_)) => return Err(self.refusal(&key)),
            (Precondition::AtRevision(key, _) | Precondition::Exists(key), Some(own), _) if is_hidden(own) => return Err(self.refusal(&key)),
            (Precondition::AtRevision(key, revision), None, Some(base)) if base.mod_revision != revision => return Err(self.refusal(&key)),
            (Precondition::AtRevision(key, _) | Precondition::Exists(key), None, Some(_)) => Precondition::Absent(key),
            (asked, _, _) => asked,
        })
    }

    /// What to do to the cluster's own record so that it sees what was asked for; `None`: nothing.
    pub fn op(&self, asked: Op) -> Option<Op> {
        match asked {
            Op::Delete { key } if self.base.is_some() => self.visible(&key).map(|_| Op::Put { value: hidden::mark(&key), key }),
            asked => Some(asked),
        }
    }
}
