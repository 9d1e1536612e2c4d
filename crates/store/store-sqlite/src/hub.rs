//! Hub: where commits meet watches, so that no watch misses or repeats an event.
use crate::SqliteOptions;
use crate::recent::{Chunk, Recent};
use crate::watchers::{WatchSender, Watchers};
use std::sync::Arc;
use store::{Event, Revision, StoreError};

/// Behind one lock, which a commit holds from before its events are visible until all watchers have them.
pub struct Hub {
    /// The newest revision dispatched.
    revision: Revision,
    oldest: Revision,
    closed: bool,
    recent: Recent,
    watchers: Watchers,
}

/// How a watch that has seen everything up to a revision can go on.
pub enum Attach {
    /// It has the rest and gets every event from now on.
    Attached,
    /// It is behind: hand it these and try again.
    Behind(Chunk),
    /// It is further behind than memory goes back: read from disk what came up to this revision.
    FarBehind { upto: Revision },
}

const CHUNK: usize = 512;

impl Hub {
    pub fn new(revision: Revision, oldest: Revision, options: &SqliteOptions) -> Self {
        let recent = Recent::new(revision, options.recent_events, options.recent_bytes);
        Self { revision, oldest, closed: false, recent, watchers: Watchers::default() }
    }
    pub fn oldest(&self) -> Revision {
        self.oldest
    }
    pub fn recent(&self) -> &Recent {
        &self.recent
    }
    pub fn dispatch(&mut self, events: Vec<Arc<Event>>, revision: Revision) {
        for event in events {
            self.watchers.dispatch(&event);
            self.recent.push(event);
        }
        self.recent.shrink();
        self.revision = revision;
    }
    /// Lets a watch of `address` go on after the revision it has seen last.
    pub fn attach(&mut self, address: &str, after: Revision, watcher: &WatchSender) -> Result<Attach, StoreError> {
        if self.closed {
            return Err(StoreError::Closed);
        }
        if after > self.revision {
            return Err(StoreError::Future { requested: after, newest: self.revision });
        }
        if after < self.oldest {
            return Err(StoreError::Compacted { requested: after, oldest: self.oldest });
        }
        if after < self.recent.floor() {
            return Ok(Attach::FarBehind { upto: self.recent.floor() });
        }
        let chunk = self.recent.chunk(address, after, CHUNK);
        // One place stays free for the error that ends the stream.
        if chunk.upto < self.revision || chunk.events.len() >= watcher.capacity() {
            return Ok(Attach::Behind(chunk));
        }
        for event in chunk.events {
            // Only fails if the watcher went away; the next dispatch finds that out.
            let _ = watcher.try_send(Ok(event));
        }
        self.watchers.file(address, watcher.clone());
        Ok(Attach::Attached)
    }
    pub fn compact(&mut self, oldest: Revision) {
        self.oldest = self.oldest.max(oldest);
        self.recent.forget(oldest);
    }
    pub fn close(&mut self) {
        self.closed = true;
        self.watchers.close();
    }
}
