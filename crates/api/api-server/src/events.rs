//! Events live for an hour.
use crate::ApiServer;
use crate::stored::stored;
use jiff::SignedDuration;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use store::{Op, Precondition, RangeRequest, Scope, StoreError, Txn};

const LIFETIME: SignedDuration = SignedDuration::from_hours(1);
const EVERY: Duration = Duration::from_secs(300);

/// Deletes Events an hour after they were last written, until the server stops.
pub async fn expire_events(server: Arc<ApiServer>) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = server.shutdown.cancelled() => return,
        }
        if let Err(error) = expire_once(&server).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "expiring events failed");
        }
    }
}

async fn expire_once(server: &ApiServer) -> Result<(), StoreError> {
    let now = server.clock.now();
    let events = api_meta::GroupResource::new("", "events");
    let found = server.store.range(RangeRequest { scope: Scope::AllClusters(events), after: None, limit: 0, revision: None }).await?;
    for record in found.records {
        let value = stored(&record).object.to_value();
        let last = last_written(&value);
        if last.is_some_and(|last| now.duration_since(last) < LIFETIME) {
            continue;
        }
        let txn =
            Txn { preconditions: vec![Precondition::AtRevision(record.key.clone(), record.mod_revision)], ops: vec![Op::Delete { key: record.key.clone() }] };
        match server.store.txn(txn).await {
            // Written again meanwhile: it lives on.
            Ok(_) | Err(StoreError::PreconditionFailed { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn last_written(event: &Value) -> Option<jiff::Timestamp> {
    let times = [&event["series"]["lastObservedTime"], &event["lastTimestamp"], &event["eventTime"], &event["metadata"]["creationTimestamp"]];
    times.iter().filter_map(|time| time.as_str()?.parse().ok()).max()
}
