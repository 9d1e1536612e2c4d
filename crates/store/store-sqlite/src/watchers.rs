//! Watchers: filed by the address of their scope, so that an event visits only those it concerns.
use std::collections::HashMap;
use std::sync::Arc;
use store::{Event, StoreError};
use tokio::sync::mpsc::Sender;

pub type WatchSender = Sender<Result<Arc<Event>, StoreError>>;

/// INVARIANT: only the holder of this sends to a filed watcher, so its free capacity cannot shrink unseen.
#[derive(Default)]
pub struct Watchers {
    filed: HashMap<Box<str>, Vec<WatchSender>>,
    count: usize,
    /// Sweep out those that went away unnoticed when there are this many.
    sweep_at: usize,
}

const SWEEP_AT_LEAST: usize = 64;

impl Watchers {
    pub fn file(&mut self, address: &str, watcher: WatchSender) {
        if self.count >= self.sweep_at {
            // A watcher of something that never changes is not missed until here. Doubling keeps this cheap.
            self.filed.retain(|_, watchers| {
                watchers.retain(|watcher| !watcher.is_closed());
                !watchers.is_empty()
            });
            self.count = self.filed.values().map(Vec::len).sum();
            self.sweep_at = (self.count * 2).max(SWEEP_AT_LEAST);
        }
        self.filed.entry(address.into()).or_default().push(watcher);
        self.count += 1;
    }
    pub fn dispatch(&mut self, event: &Arc<Event>) {
        for address in event.record.key.addresses() {
            let Some(watchers) = self.filed.get_mut(address) else { continue };
            let before = watchers.len();
            watchers.retain(|watcher| offer(watcher, event));
            self.count -= before - watchers.len();
            if watchers.is_empty() {
                self.filed.remove(address);
            }
        }
    }
    /// Ends every watch.
    pub fn close(&mut self) {
        for watcher in self.filed.drain().flat_map(|(_, watchers)| watchers) {
            // A watcher that went away needs no farewell.
            let _ = watcher.try_send(Err(StoreError::Closed));
        }
        self.count = 0;
    }
}

/// Hands over an event; false if the watcher is gone or has been dropped for being slow.
fn offer(watcher: &WatchSender, event: &Arc<Event>) -> bool {
    if watcher.is_closed() {
        return false;
    }
    // The last place is kept for the error that ends the stream.
    if watcher.capacity() <= 1 {
        // It can only fail if the watcher went away meanwhile.
        let _ = watcher.try_send(Err(StoreError::Slow));
        return false;
    }
    watcher.try_send(Ok(event.clone())).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use store::{Key, Record, WatchStream};
    use tokio::sync::mpsc::channel;

    fn event(revision: u64) -> Arc<Event> {
        let key = Key::parse("/root/core/pods/default/a").unwrap();
        Event::new(revision, Record::new(key, 1, revision, Bytes::new()), None, false)
    }
    fn filed(watchers: &mut Watchers, address: &str) -> WatchStream {
        let (sender, stream) = channel(4);
        watchers.file(address, sender);
        stream
    }

    #[test]
    fn a_full_watcher_hears_that_it_was_slow() {
        let mut watchers = Watchers::default();
        let mut stream = filed(&mut watchers, "/core/pods/");
        for revision in 1..9 {
            watchers.dispatch(&event(revision));
        }
        for revision in 1..=3 {
            assert_eq!(stream.try_recv().unwrap().unwrap().revision, revision);
        }
        assert!(matches!(stream.try_recv(), Ok(Err(StoreError::Slow))));
        assert!(stream.is_closed());
    }

    #[test]
    fn watchers_of_quiet_things_do_not_pile_up() {
        let mut watchers = Watchers::default();
        for _ in 0..10_000 {
            drop(filed(&mut watchers, "/root/core/secrets/default/quiet"));
        }
        assert!(watchers.count <= SWEEP_AT_LEAST);
    }
}
