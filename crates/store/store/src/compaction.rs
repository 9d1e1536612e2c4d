//! Periodic compaction: keeps the last minutes of history, as the API server does with etcd.
use crate::{Revision, Store, StoreError};
use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

/// How much history to keep for ranges and watches that start in the past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactionPolicy {
    /// Time between compactions: minutes, never zero.
    pub every: Duration,
    /// Changes younger than this stay readable.
    pub keep: Duration,
}

impl Default for CompactionPolicy {
    /// Every five minutes (upstream's `--etcd-compaction-interval`), keeping ten.
    fn default() -> Self {
        Self { every: Duration::from_secs(300), keep: Duration::from_secs(600) }
    }
}

/// Which revision was the newest at each of the last ticks.
struct Notes {
    kept: usize,
    newest: VecDeque<Revision>,
}

impl Notes {
    fn new(policy: CompactionPolicy) -> Self {
        // Rounded up, so that nothing younger than `keep` is ever forgotten.
        let ticks = policy.keep.as_millis().div_ceil(policy.every.as_millis().max(1));
        Self { kept: usize::try_from(ticks).unwrap_or(usize::MAX), newest: VecDeque::new() }
    }
    /// Notes the newest revision at this tick; returns the one that is old enough to compact to.
    fn tick(&mut self, revision: Revision) -> Option<Revision> {
        self.newest.push_back(revision);
        if self.newest.len() > self.kept { self.newest.pop_front() } else { None }
    }
}

/// Compacts by the policy until the store is closed. A failed compaction is logged; the next tick tries again.
///
/// # Panics
/// If `policy.every` is zero.
pub async fn compact_periodically<S: Store + ?Sized>(store: &S, policy: CompactionPolicy) {
    let mut notes = Notes::new(policy);
    let mut ticks = interval_at(Instant::now() + policy.every, policy.every);
    // After a stall (a suspended machine) ticks must not bunch up: each stands for `every` of history.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(revision) = notes.tick(store.revision()).filter(|revision| *revision > store.oldest()) else { continue };
        match store.compact(revision).await {
            Ok(()) => tracing::debug!(revision, "compacted the store"),
            Err(StoreError::Closed) => return,
            Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, revision, "compaction failed; the next one will catch up"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_younger_than_keep_is_compacted() {
        let minutes = |m: u64| Duration::from_secs(m * 60);
        let compacted = |keep, revisions: &[Revision]| {
            let mut notes = Notes::new(CompactionPolicy { every: minutes(5), keep: minutes(keep) });
            revisions.iter().map(|r| notes.tick(*r)).collect::<Vec<_>>()
        };
        assert_eq!(compacted(10, &[10, 20, 30, 40]), [None, None, Some(10), Some(20)]);
        assert_eq!(compacted(11, &[10, 20, 30, 40]), [None, None, None, Some(10)]);
        assert_eq!(compacted(0, &[10, 20]), [Some(10), Some(20)]);
    }
}
