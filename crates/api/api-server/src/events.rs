//! Events live for an hour, or as long as `event-ttl` says.
use crate::ApiServer;
use crate::stored::stored;
use api_meta::GroupResource;
use jiff::Timestamp;
use serde_json::Value;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use store::{Key, Op, Precondition, RangeRequest, Revision, Scope, StoreError, Txn, WatchStream};

/// After what failed; and how far apart ends are that are looked after together.
const PAUSE: Duration = Duration::from_secs(1);
/// Most of them that go in one transaction.
const BATCH: usize = 256;

/// Deletes Events once they are as old as they may get, until the server stops. Between their ends it sleeps.
pub async fn expire_events(server: Arc<ApiServer>) {
    let shutdown = server.shutdown.clone();
    let keep = async {
        loop {
            match Expiry::follow(&server).await {
                StoreError::Closed => return,
                // Its place in the history is lost; everything is read again.
                StoreError::Slow => {}
                error => tracing::warn!(error = &error as &dyn std::error::Error, "expiring events failed; it is tried again"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    // Nothing is left to be done by halves: each deletion is a transaction.
    shutdown.run_until_cancelled(keep).await;
}

/// One Event as it was when it was last written.
struct Due {
    at: Timestamp,
    key: Key,
    revision: Revision,
}

/// INVARIANT: in the order of their ends. All live equally long, so that what is written later ends later.
struct Expiry<'a> {
    server: &'a ApiServer,
    waiting: VecDeque<Due>,
}

impl<'a> Expiry<'a> {
    /// Follows the store until that fails; gives why it did.
    async fn follow(server: &'a ApiServer) -> StoreError {
        let mut expiry = Self { server, waiting: VecDeque::new() };
        let mut events = match expiry.begin().await {
            Ok(events) => events,
            Err(error) => return error,
        };
        loop {
            let first = expiry.waiting.front().map(|due| due.at);
            // However many events come, the wait ends when it is over.
            let pause = first.map(|at| Duration::try_from(at.saturating_add(PAUSE).unwrap_or(at).duration_since(server.clock.now())).unwrap_or_default());
            let sleep = async {
                match pause {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                event = events.recv() => match event {
                    Some(Ok(event)) if !event.deleted => expiry.wait_for(event.record.key.clone(), event.revision, server.clock.now()),
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return error,
                    None => return StoreError::Closed,
                },
                () = sleep => if let Err(error) = expiry.expire().await {
                    return error;
                },
            }
        }
    }

    async fn begin(&mut self) -> Result<WatchStream, StoreError> {
        let scope = Scope::AllClusters(GroupResource::new("", "events"));
        let found = self.server.store.range(RangeRequest { scope: scope.clone(), after: None, limit: 0, revision: None }).await?;
        let mut all: Vec<(Timestamp, Key, Revision)> = found
            .records
            .iter()
            .map(|record| (last_written(&stored(record).object.to_value()).unwrap_or_default(), record.key.clone(), record.mod_revision))
            .collect();
        all.sort_by_key(|(written, ..)| *written);
        // What says that it comes from the future must not hold up those of today.
        let now = self.server.clock.now();
        for (written, key, revision) in all {
            self.wait_for(key, revision, written.min(now));
        }
        self.server.store.watch(scope, found.revision).await
    }

    fn wait_for(&mut self, key: Key, revision: Revision, written: Timestamp) {
        let at = written.saturating_add(self.server.options.event_ttl).unwrap_or(Timestamp::MAX);
        self.waiting.push_back(Due { at, key, revision });
    }

    /// Deletes what has come to its end and was not written again.
    async fn expire(&mut self) -> Result<(), StoreError> {
        let now = self.server.clock.now();
        let mut due = Vec::new();
        while due.len() < BATCH && self.waiting.front().is_some_and(|due| due.at <= now) {
            due.extend(self.waiting.pop_front());
        }
        for Due { key, revision, .. } in due {
            if self.server.store.get(&key).await?.is_none_or(|record| record.mod_revision != revision) {
                continue;
            }
            let txn = Txn { preconditions: vec![Precondition::AtRevision(key.clone(), revision)], ops: vec![Op::Delete { key }] };
            match self.server.store.txn(txn).await {
                // Written again meanwhile: it lives on.
                Ok(_) | Err(StoreError::PreconditionFailed { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn last_written(event: &Value) -> Option<Timestamp> {
    let times = [&event["series"]["lastObservedTime"], &event["lastTimestamp"], &event["eventTime"], &event["metadata"]["creationTimestamp"]];
    times.iter().filter_map(|time| time.as_str()?.parse().ok()).max()
}
