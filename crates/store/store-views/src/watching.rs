//! Watching: events as the watchers of a virtual cluster see them.
use crate::base::{moved, seen_as};
use crate::hidden::is_hidden;
use crate::mirror::Mirrors;
use crate::view_store::Restamp;
use api_meta::ClusterName;
use std::sync::Arc;
use store::{CurrentRecord, Event, Record, StoreError, WatchStream};
use tokio::sync::mpsc;

/// Events that may wait between the engine's stream and the watcher's: the engine's own buffer does the work.
const BUFFER: usize = 16;

/// An event of a cluster's own record, above `base`; `None` if nothing changed for the cluster.
pub(crate) fn layered(event: &Arc<Event>, base: Option<&Arc<Record>>, restamp: Restamp) -> Option<Arc<Event>> {
    let hides = !event.deleted && is_hidden(&event.record);
    let before = match &event.previous {
        Some(previous) => (!is_hidden(previous)).then(|| previous.clone()),
        None => base.map(|base| seen_as(base, event.record.key.clone())),
    };
    // What lay above the base was taken away beneath the views, by a restore: the base is seen again.
    if let (true, Some(base)) = (event.deleted, base) {
        let value = restamp(&base.value, event.revision);
        let shown = Record::new(event.record.key.clone(), base.create_revision, event.revision, value);
        return Some(Event::new(event.revision, shown, before, false));
    }
    match before {
        Some(last) if hides => {
            let value = restamp(&last.value, event.revision);
            let record = Record::new(last.key.clone(), last.create_revision, event.revision, value);
            Some(Event::new(event.revision, record, Some(last), true))
        }
        None if hides => None,
        // A mark of what is no longer in the base.
        None if event.deleted => None,
        before if event.previous.as_ref().map(|p| p.mod_revision) == before.as_ref().map(|b| b.mod_revision) => Some(event.clone()),
        before => Some(Event::new(event.revision, event.record.clone(), before, event.deleted)),
    }
}

/// An event of the host cluster as `cluster` sees it; `None` if it does not concern it.
pub(crate) fn mirrored(event: &Arc<Event>, mirrors: &dyn Mirrors, cluster: &ClusterName) -> Option<Arc<Event>> {
    let see = |record: &Record| Some(Record::new(moved(&record.key, cluster), record.create_revision, record.mod_revision, mirrors.view(cluster, record)?));
    let before = event.previous.as_deref().and_then(see);
    let now = see(&event.record);
    match (before, now) {
        (before, Some(now)) if !event.deleted => match &before {
            // What changed is nothing this cluster sees.
            Some(before) if same(before, &now) => None,
            _ => Some(Event::new(event.revision, now, before, false)),
        },
        (Some(before), now) => {
            let last = now.unwrap_or_else(|| Record::new(before.key.clone(), before.create_revision, event.revision, before.value.clone()));
            Some(Event::new(event.revision, last, Some(before), true))
        }
        (None, _) => None,
    }
}

/// Whether two values differ in nothing but their revision.
fn same(before: &Record, now: &Record) -> bool {
    let plain = |record: &Record| api_meta::object::restamp(&record.value, 0);
    plain(before) == plain(now)
}

/// A failed transaction, told without marks.
pub(crate) fn unmarked(error: StoreError) -> StoreError {
    match error {
        StoreError::PreconditionFailed { key, current: Some(CurrentRecord(current)) } if is_hidden(&current) => {
            StoreError::PreconditionFailed { key, current: None }
        }
        other => other,
    }
}

/// The stream of events with each one replaced by what `see` makes of it. It ends when its receiver is gone.
pub(crate) fn mapped(mut events: WatchStream, see: impl Fn(&Arc<Event>) -> Option<Arc<Event>> + Send + Sync + 'static) -> WatchStream {
    let (sender, receiver) = mpsc::channel(BUFFER);
    tokio::spawn(async move {
        loop {
            let next = tokio::select! {
                next = events.recv() => next,
                () = sender.closed() => return,
            };
            let item = match next {
                Some(Ok(event)) => match see(&event) {
                    Some(event) => Ok(event),
                    None => continue,
                },
                Some(Err(error)) => Err(error),
                None => return,
            };
            if sender.send(item).await.is_err() {
                return;
            }
        }
    });
    receiver
}
