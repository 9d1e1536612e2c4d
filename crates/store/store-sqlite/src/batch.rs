//! Batch: decides transactions one after the other, each seeing those before it, without touching anything.
use crate::SqliteError;
use crate::schema::{MAX_OPS, row_id};
use bytes::Bytes;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use store::{Committed, CurrentRecord, Event, Key, Op, Precondition, Record, Revision, Stamp, StoreError, Txn};

/// What is committed already.
pub trait Base {
    fn live(&self, key: &Key) -> Option<Arc<Record>>;
    /// The value of a live record as it was put.
    fn unstamped(&self, record: &Record) -> Result<Bytes, SqliteError>;
}

/// One row to be written.
pub struct Row {
    pub id: i64,
    pub key: Key,
    pub create_revision: Revision,
    /// As it was put; `None` for a deletion.
    pub value: Option<Bytes>,
}

pub struct Batch<'a, B> {
    base: &'a B,
    stamp: Stamp,
    /// The revision of the last transaction staged.
    pub revision: Revision,
    pub rows: Vec<Row>,
    pub events: Vec<Arc<Event>>,
    staged: HashMap<Key, Staged>,
}

/// The newest state of a key that this batch changes.
struct Staged {
    record: Option<Arc<Record>>,
    /// As it was put; `None` for a deletion.
    unstamped: Option<Bytes>,
}

/// An operation that changes something.
enum Change {
    Put { key: Key, value: Bytes, previous: Option<Arc<Record>> },
    Delete { previous: Arc<Record>, unstamped: Bytes },
}

impl<'a, B: Base> Batch<'a, B> {
    pub fn new(base: &'a B, stamp: Stamp, revision: Revision) -> Self {
        Self { base, stamp, revision, rows: Vec::new(), events: Vec::new(), staged: HashMap::new() }
    }

    /// Adds a transaction, or says why it can't be. The answer holds only once the batch is on disk.
    pub fn stage(&mut self, txn: Txn) -> Result<Committed, StoreError> {
        check_ops(&txn.ops)?;
        for precondition in &txn.preconditions {
            self.check(precondition)?;
        }
        // All that may fail comes before the first change, so that a transaction is staged as a whole.
        let changes = txn.ops.into_iter().filter_map(|op| self.change(op).transpose()).collect::<Result<Vec<_>, _>>()?;
        if changes.is_empty() {
            return Ok(Committed { revision: self.revision, events: Vec::new() });
        }
        self.revision += 1;
        let events: Vec<_> = changes.into_iter().enumerate().map(|(position, change)| self.apply(position, change)).collect();
        self.events.extend(events.iter().cloned());
        Ok(Committed { revision: self.revision, events })
    }

    fn current(&self, key: &Key) -> Option<Arc<Record>> {
        match self.staged.get(key) {
            Some(staged) => staged.record.clone(),
            None => self.base.live(key),
        }
    }

    fn check(&self, precondition: &Precondition) -> Result<(), StoreError> {
        let (Precondition::Absent(key) | Precondition::AtRevision(key, _) | Precondition::Exists(key)) = precondition;
        let current = self.current(key);
        let holds = match (precondition, &current) {
            (Precondition::Absent(_), current) => current.is_none(),
            (Precondition::AtRevision(_, revision), Some(current)) => current.mod_revision == *revision,
            (Precondition::Exists(_), current) => current.is_some(),
            (Precondition::AtRevision(..), None) => false,
        };
        if holds { Ok(()) } else { Err(StoreError::PreconditionFailed { key: key.clone(), current: current.map(CurrentRecord) }) }
    }

    fn change(&self, op: Op) -> Result<Option<Change>, SqliteError> {
        Ok(match op {
            Op::Put { key, value } => {
                let previous = self.current(&key);
                // Share the key the record before has.
                let key = previous.as_ref().map_or(key, |previous| previous.key.clone());
                Some(Change::Put { key, value, previous })
            }
            Op::Delete { key } => match self.current(&key) {
                None => None,
                Some(previous) => {
                    let unstamped = match self.staged.get(&key).and_then(|staged| staged.unstamped.clone()) {
                        Some(staged) => staged,
                        None => self.base.unstamped(&previous)?,
                    };
                    Some(Change::Delete { previous, unstamped })
                }
            },
        })
    }

    fn apply(&mut self, position: usize, change: Change) -> Arc<Event> {
        let revision = self.revision;
        let (event, unstamped) = match change {
            Change::Put { key, value, previous } => {
                let created = previous.as_ref().map_or(revision, |previous| previous.create_revision);
                let record = Record::new(key, created, revision, (self.stamp)(&value, revision));
                (Event::new(revision, record, previous, false), Some(value))
            }
            Change::Delete { previous, unstamped } => {
                let last = Record::new(previous.key.clone(), previous.create_revision, revision, (self.stamp)(&unstamped, revision));
                (Event::new(revision, last, Some(previous), true), None)
            }
        };
        let key = event.record.key.clone();
        let record = (!event.deleted).then(|| event.record.clone());
        self.rows.push(Row { id: row_id(revision, position), key: key.clone(), create_revision: event.record.create_revision, value: unstamped.clone() });
        self.staged.insert(key, Staged { record, unstamped });
        event
    }
}

fn check_ops(ops: &[Op]) -> Result<(), SqliteError> {
    if ops.len() > MAX_OPS {
        return Err(SqliteError::TooManyOps(ops.len()));
    }
    let mut seen = HashSet::with_capacity(if ops.len() > 1 { ops.len() } else { 0 });
    for Op::Put { key, .. } | Op::Delete { key } in ops {
        if !key.is_well_formed() {
            return Err(SqliteError::MalformedKey(key.clone()));
        }
        // Two changes of one key cannot share one revision.
        if ops.len() > 1 && !seen.insert(key) {
            return Err(SqliteError::WrittenTwice(key.clone()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A base that holds one record, `a`, put as "old" at revision 5.
    struct OneRecord(Arc<Record>);
    impl Base for OneRecord {
        fn live(&self, key: &Key) -> Option<Arc<Record>> {
            (*key == self.0.key).then(|| self.0.clone())
        }
        fn unstamped(&self, _: &Record) -> Result<Bytes, SqliteError> {
            Ok(Bytes::from_static(b"old"))
        }
    }
    fn base() -> OneRecord {
        OneRecord(Record::new(key("a"), 3, 5, stamp(b"old", 5)))
    }
    fn stamp(value: &[u8], revision: Revision) -> Bytes {
        format!("{}@{revision}", String::from_utf8_lossy(value)).into()
    }
    fn key(name: &str) -> Key {
        Key::parse(&format!("/root/core/pods/default/{name}")).unwrap()
    }
    fn put(name: &str, value: &'static str) -> Op {
        Op::Put { key: key(name), value: Bytes::from_static(value.as_bytes()) }
    }
    fn delete(name: &str) -> Op {
        Op::Delete { key: key(name) }
    }
    fn txn(preconditions: Vec<Precondition>, ops: Vec<Op>) -> Txn {
        Txn { preconditions, ops }
    }
    fn show(events: &[Arc<Event>]) -> Vec<String> {
        let value = |record: &Record| String::from_utf8_lossy(&record.value).into_owned();
        let show = |e: &Arc<Event>| {
            let previous = e.previous.as_ref().map_or("nothing".into(), |p| value(p));
            format!("{} {previous} -> {}{}", e.record.key.name(), if e.deleted { "deleted " } else { "" }, value(&e.record))
        };
        events.iter().map(show).collect()
    }

    #[test]
    fn a_transaction_sees_those_before_it_in_its_batch() {
        let base = base();
        let mut batch = Batch::new(&base, stamp, 5);
        assert_eq!(batch.stage(txn(vec![Precondition::AtRevision(key("a"), 5)], vec![put("a", "new")])).unwrap().revision, 6);
        let stale = batch.stage(txn(vec![Precondition::AtRevision(key("a"), 5)], vec![put("a", "lost")]));
        assert!(matches!(stale, Err(StoreError::PreconditionFailed { current: Some(current), .. }) if current.0.mod_revision == 6));
        batch.stage(txn(vec![], vec![delete("a"), put("b", "b")])).unwrap();
        batch.stage(txn(vec![Precondition::Absent(key("a")), Precondition::Exists(key("b"))], vec![put("a", "again")])).unwrap();
        assert_eq!(show(&batch.events), ["a old@5 -> new@6", "a new@6 -> deleted new@7", "b nothing -> b@7", "a nothing -> again@8"]);
        let created: Vec<_> = batch.rows.iter().map(|row| (row.id, row.create_revision)).collect();
        assert_eq!(created, [(row_id(6, 0), 3), (row_id(7, 0), 3), (row_id(7, 1), 7), (row_id(8, 0), 8)]);
    }

    #[test]
    fn a_deletion_carries_the_last_value_from_disk() {
        let base = base();
        let mut batch = Batch::new(&base, stamp, 9);
        assert_eq!(show(&batch.stage(txn(vec![], vec![delete("a"), delete("absent")])).unwrap().events), ["a old@5 -> deleted old@10"]);
    }

    #[test]
    fn what_changes_nothing_takes_no_revision() {
        let base = base();
        let mut batch = Batch::new(&base, stamp, 9);
        assert_eq!(batch.stage(txn(vec![Precondition::Exists(key("a"))], vec![delete("absent")])).unwrap().revision, 9);
        assert!(batch.rows.is_empty());
    }

    #[test]
    fn malformed_transactions_are_refused() {
        let base = base();
        let mut batch = Batch::new(&base, stamp, 9);
        let twice = batch.stage(txn(vec![], vec![put("a", "1"), delete("a")]));
        assert!(matches!(twice, Err(StoreError::Engine(error)) if error.to_string() == "key `/root/core/pods/default/a` is written twice in one transaction"));
        let many = batch.stage(txn(vec![], (0..=MAX_OPS).map(|i| delete(&i.to_string())).collect()));
        assert!(matches!(many, Err(StoreError::Engine(error)) if error.to_string() == "65537 operations are too many for one transaction; the limit is 65536"));
        assert!(batch.rows.is_empty());
    }
}
