//! Recent: the newest events, kept in memory for watches and ranges that start a little in the past.
use crate::live::Past;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Arc;
use store::{Event, Revision};

/// What a value costs in memory beside its bytes: record, key, and what layers above remember of it.
const RECORD_OVERHEAD: usize = 1024;

/// INVARIANT: holds every event with a revision greater than `floor`, in order, and no other.
pub struct Recent {
    floor: Revision,
    events: VecDeque<Arc<Event>>,
    bytes: usize,
    max_events: usize,
    max_bytes: usize,
}

/// The start of what came after a revision, as whole revisions.
pub struct Chunk {
    pub events: Vec<Arc<Event>>,
    /// The last revision looked at.
    pub upto: Revision,
}

impl Recent {
    pub fn new(floor: Revision, max_events: usize, max_bytes: usize) -> Self {
        Self { floor, events: VecDeque::new(), bytes: 0, max_events, max_bytes }
    }
    /// The oldest revision of which the events after it are all here.
    pub fn floor(&self) -> Revision {
        self.floor
    }
    pub fn push(&mut self, event: Arc<Event>) {
        self.bytes += event_bytes(&event);
        self.events.push_back(event);
    }
    /// Drops the oldest revisions until the rest is within bounds.
    pub fn shrink(&mut self) {
        while self.events.len() > self.max_events || self.bytes > self.max_bytes {
            let Some(oldest) = self.events.front() else { return };
            self.forget(oldest.revision);
        }
    }
    /// Drops the events up to and of `revision`.
    pub fn forget(&mut self, revision: Revision) {
        self.floor = self.floor.max(revision);
        while let Some(event) = self.events.pop_front_if(|event| event.revision <= revision) {
            self.bytes -= event_bytes(&event);
        }
    }
    fn after(&self, after: Revision) -> impl Iterator<Item = &Arc<Event>> {
        self.events.range(self.events.partition_point(|event| event.revision <= after)..)
    }
    /// The events at `address` with a revision greater than `after`, at least `enough` of them if there are.
    pub fn chunk(&self, address: &str, after: Revision, enough: usize) -> Chunk {
        let mut chunk = Chunk { events: Vec::new(), upto: after };
        for event in self.after(after) {
            if chunk.events.len() >= enough && event.revision != chunk.upto {
                return chunk;
            }
            chunk.upto = event.revision;
            if event.record.key.addresses().contains(&address) {
                chunk.events.push(event.clone());
            }
        }
        chunk
    }
    /// The state at `revision` of the keys at `address` that have changed since; `None` if that is too long ago.
    pub fn past(&self, address: &str, revision: Revision) -> Option<Past> {
        if revision < self.floor {
            return None;
        }
        let mut past = Past::new();
        for event in self.after(revision) {
            if event.record.key.addresses().contains(&address) {
                // What was before the first change is what was at `revision`.
                past.entry(event.record.key.clone()).or_insert_with(|| event.previous.clone());
            }
        }
        Some(past)
    }
}

/// The bytes an event keeps alive.
fn event_bytes(event: &Event) -> usize {
    let cost = |value: &Bytes| value.len() + RECORD_OVERHEAD;
    cost(&event.record.value) + event.previous.as_ref().map_or(0, |previous| cost(&previous.value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use store::{Key, Record};

    fn event(revision: Revision, name: &str) -> Arc<Event> {
        let key = Key::parse(&format!("/root/core/pods/default/{name}")).unwrap();
        Event::new(revision, Record::new(key, revision, revision, Bytes::new()), None, false)
    }
    fn recent(max_events: usize, revisions: &[Revision]) -> Recent {
        let mut recent = Recent::new(0, max_events, usize::MAX);
        for revision in revisions {
            recent.push(event(*revision, "a"));
        }
        recent.shrink();
        recent
    }
    fn revisions(chunk: &Chunk) -> Vec<Revision> {
        chunk.events.iter().map(|event| event.revision).collect()
    }

    #[test]
    fn a_revision_is_kept_or_dropped_as_a_whole() {
        let kept = recent(4, &[1, 2, 2, 3, 4, 5]);
        assert_eq!((kept.floor(), revisions(&kept.chunk("/core/pods/", 0, 9))), (2, vec![3, 4, 5]));
        let empty = recent(1, &[7, 7]);
        assert_eq!((empty.floor(), empty.events.len(), empty.bytes), (7, 0, 0));
    }

    #[test]
    fn a_chunk_never_ends_within_a_revision() {
        let chunk = recent(9, &[1, 2, 2, 2, 3]).chunk("/root/", 0, 2);
        assert_eq!((revisions(&chunk), chunk.upto), (vec![1, 2, 2, 2], 2));
    }

    #[test]
    fn a_chunk_passes_over_other_addresses() {
        let chunk = recent(9, &[1, 2, 3]).chunk("/other/", 1, 1);
        assert_eq!((revisions(&chunk), chunk.upto), (vec![], 3));
    }
}
