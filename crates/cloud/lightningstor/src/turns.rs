//! Turns: one thing at a time for each key, to its end even if whoever asked has gone.
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use tokio::sync::Mutex as AsyncMutex;

#[derive(Default)]
pub struct Turns(Mutex<HashMap<String, Weak<AsyncMutex<()>>>>);

impl Turns {
    /// Runs blocking work once no other work of the key runs.
    ///
    /// A caller that goes away does not end the work, nor does its turn end before the work has.
    pub async fn take<T: Send + 'static>(&self, key: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
        let turn = {
            let mut all = self.0.lock();
            all.retain(|_, turn| turn.strong_count() > 0);
            let turn = all.get(key).and_then(Weak::upgrade).unwrap_or_default();
            all.insert(key.to_owned(), Arc::downgrade(&turn));
            turn
        };
        let guard = turn.lock_owned().await;
        let done = tokio::task::spawn_blocking(move || {
            let result = work();
            drop(guard);
            result
        });
        match done.await {
            Ok(result) => result,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}
