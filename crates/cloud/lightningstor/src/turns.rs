//! Turns: one thing at a time for each key, to its end even if whoever asked has gone.
use parking_lot::Mutex;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Weak};
use tokio::sync::Mutex as AsyncMutex;

#[derive(Default)]
pub struct Turns(Mutex<HashMap<String, Weak<AsyncMutex<()>>>>);

impl Turns {
    /// Runs blocking work once no other work of the key runs.
    ///
    /// A caller that goes away does not end the work, nor does its turn end before the work has.
    pub async fn take<T: Send + 'static>(&self, key: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
        self.take_all([key].into(), work).await
    }

    /// As `take`, once no other work of any of these keys runs.
    pub async fn take_all<T: Send + 'static>(&self, keys: BTreeSet<&str>, work: impl FnOnce() -> T + Send + 'static) -> T {
        let mut guards = Vec::with_capacity(keys.len());
        // INVARIANT: turns are taken in the order of their keys, so that no two wait for each other.
        for key in keys {
            guards.push(self.turn(key).lock_owned().await);
        }
        let done = tokio::task::spawn_blocking(move || {
            let result = work();
            drop(guards);
            result
        });
        match done.await {
            Ok(result) => result,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    fn turn(&self, key: &str) -> Arc<AsyncMutex<()>> {
        let mut all = self.0.lock();
        all.retain(|_, turn| turn.strong_count() > 0);
        let turn = all.get(key).and_then(Weak::upgrade).unwrap_or_default();
        all.insert(key.to_owned(), Arc::downgrade(&turn));
        turn
    }
}
