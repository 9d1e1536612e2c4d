//! Live: the newest record of every key, in memory.
use crate::span::Spans;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ops::Bound;
use std::sync::Arc;
use store::{Event, Key, Record, Revision, Scope};

/// INVARIANT: holds exactly what is committed on disk up to `revision`.
pub struct Live {
    pub revision: Revision,
    records: BTreeMap<Key, Arc<Record>>,
}

/// A key's state at a past revision: `None` if it did not exist.
pub type Past = BTreeMap<Key, Option<Arc<Record>>>;

/// Part of a range: the records, and how many more follow them.
pub struct Page {
    pub records: Vec<Arc<Record>>,
    pub remaining: usize,
}

impl Live {
    pub fn new(revision: Revision, records: BTreeMap<Key, Arc<Record>>) -> Self {
        Self { revision, records }
    }
    pub fn get(&self, key: &str) -> Option<&Arc<Record>> {
        self.records.get(key)
    }
    pub fn apply(&mut self, event: &Event) {
        if event.deleted {
            self.records.remove(&event.record.key);
        } else {
            self.records.insert(event.record.key.clone(), event.record.clone());
        }
    }
    pub fn page(&self, scope: &Scope, after: Option<&str>, limit: usize) -> Page {
        page(self.scan(scope, after), limit)
    }
    /// The page as it was when the keys in `past` were in the state given there.
    pub fn page_with_past(&self, past: &Past, scope: &Scope, after: Option<&str>, limit: usize) -> Page {
        let unchanged = self.scan(scope, after).filter(|record| !past.contains_key(&record.key));
        let changed = past.values().flatten().filter(|record| after.is_none_or(|after| record.key.as_str() > after));
        page(merge(unchanged, changed), limit)
    }
    fn scan<'a>(&'a self, scope: &Scope, after: Option<&str>) -> impl Iterator<Item = &'a Arc<Record>> {
        let mut spans = Spans::new(scope, after);
        std::iter::from_fn(move || {
            let first_from = |position: &str| Ok::<_, Infallible>(self.records.range::<str, _>(from(position)).next().map(|(key, _)| key.as_str().to_owned()));
            let Ok(span) = spans.next(first_from);
            span
        })
        .filter(|span| span.from < span.to)
        .flat_map(|span| self.records.range::<str, _>((Bound::Included(&*span.from), Bound::Excluded(&*span.to))).map(|(_, record)| record))
    }
}

fn from(position: &str) -> (Bound<&str>, Bound<&str>) {
    (Bound::Included(position), Bound::Unbounded)
}

fn page<'a>(mut records: impl Iterator<Item = &'a Arc<Record>>, limit: usize) -> Page {
    let limit = if limit == 0 { usize::MAX } else { limit };
    let page = records.by_ref().take(limit).cloned().collect();
    Page { records: page, remaining: records.count() }
}

/// Two runs in key order as one.
fn merge<'a>(left: impl Iterator<Item = &'a Arc<Record>>, right: impl Iterator<Item = &'a Arc<Record>>) -> impl Iterator<Item = &'a Arc<Record>> {
    let (mut left, mut right) = (left.peekable(), right.peekable());
    std::iter::from_fn(move || match (left.peek(), right.peek()) {
        (Some(l), Some(r)) if r.key < l.key => right.next(),
        (Some(_), _) => left.next(),
        (None, _) => right.next(),
    })
}
