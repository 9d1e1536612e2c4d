//! Catch-up: brings a watch that starts in the past to the present, at its reader's own pace.
use crate::history;
use crate::hub::Attach;
use crate::recent::Chunk;
use crate::shared::Shared;
use crate::watchers::WatchSender;
use std::sync::Arc;
use store::{Revision, StoreError};

/// Sends what came after `after` until the watch can be attached. Ends early if nobody reads any more.
pub async fn catch_up(shared: Arc<Shared>, address: String, mut after: Revision, watcher: WatchSender) {
    loop {
        // A watch attached with a full buffer would be dropped as slow at the next event.
        let room = watcher.max_capacity().div_ceil(2);
        match watcher.reserve_many(room).await {
            Ok(permits) => drop(permits),
            Err(_) => return,
        }
        match next(&shared, &address, after, &watcher).await {
            Ok(None) => return,
            Ok(Some(chunk)) => {
                after = chunk.upto;
                for event in chunk.events {
                    if watcher.send(Ok(event)).await.is_err() {
                        return;
                    }
                }
            }
            Err(error) => {
                // If nobody reads any more, nobody misses the reason.
                let _ = watcher.send(Err(error)).await;
                return;
            }
        }
    }
}

/// The next events to send; `None` once the watch is attached.
async fn next(shared: &Arc<Shared>, address: &str, after: Revision, watcher: &WatchSender) -> Result<Option<Chunk>, StoreError> {
    let attach = shared.hub.lock().attach(address, after, watcher)?;
    match attach {
        Attach::Attached => Ok(None),
        Attach::Behind(chunk) => Ok(Some(chunk)),
        Attach::FarBehind { upto } => {
            let address = address.to_owned();
            let chunk = shared.read(move |connection, shared| history::events(connection, shared, &address, after, upto)).await?;
            // A compaction may have started meanwhile; it says so before it deletes anything.
            shared.check_kept(after)?;
            Ok(Some(chunk))
        }
    }
}
