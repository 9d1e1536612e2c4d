//! Suite: what every engine has to do, as checks that [`engine_suite!`](crate::engine_suite) makes tests of.
#![allow(clippy::unwrap_used, reason = "a check panics where a test would")]

mod history;
mod model;
mod ranges;
mod scopes;
mod transactions;
mod watches;

pub use history::*;
pub use ranges::*;
pub use scopes::*;
pub use transactions::*;
pub use watches::*;

use crate::{Key, Op, Precondition, Record, Revision, Scope, Store, StoreError, Txn, WatchStream};
use api_meta::{ClusterName, GroupResource};
use bytes::Bytes;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// An engine under test, with data of its own.
pub trait Harness: Send + Sync + 'static {
    /// Most events a watcher can have waiting before the engine drops it.
    const WATCH_BUFFER: usize;

    fn new() -> Self;

    /// Opens the store, empty the first time and then with what it held; first closes the one opened before.
    /// It stamps values with [`stamp`].
    fn open(&self) -> impl Future<Output = Arc<dyn Store>> + Send;
}

/// How the checks expect values to be stamped.
pub fn stamp(value: &[u8], revision: Revision) -> Bytes {
    let mut stamped = format!("{revision}:").into_bytes();
    stamped.extend_from_slice(value);
    stamped.into()
}

/// Makes a test of each check: `store::engine_suite!(MyHarness);`
#[macro_export]
macro_rules! engine_suite {
    ($harness:ty) => {
        $crate::engine_suite! { $harness:
            a_transaction_commits_all_or_nothing
            all_changes_of_a_transaction_share_a_revision
            what_changes_nothing_takes_no_revision
            compare_and_swap_loses_no_increment
            one_of_many_creators_wins
            a_deletion_shows_the_last_value
            an_acknowledged_write_is_seen_by_every_later_read
            pages_add_up_to_the_whole
            pages_at_a_revision_stand_still_while_writers_go_on
            every_kept_revision_can_be_read
            the_future_is_refused
            scopes_never_leak
            a_watch_has_no_gap_and_no_repeat_among_writers
            a_list_and_the_watch_from_it_join_without_a_seam
            the_revision_advances_after_its_events_are_handed_out
            a_slow_watcher_is_told_and_dropped
            a_watch_from_long_ago_gets_everything
            a_watch_goes_on_across_a_restart
            compacted_history_is_refused_and_the_rest_kept
            compaction_at_any_revision_keeps_what_came_after
            compaction_disturbs_neither_writers_nor_watchers
            revisions_never_go_down
            a_closed_store_refuses_everything
        }
    };
    ($harness:ty: $($check:ident)+) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $check() {
                $crate::suite::$check(<$harness as $crate::suite::Harness>::new()).await;
            }
        )+
    };
}

fn pods() -> GroupResource {
    GroupResource::new("", "pods")
}

fn pod(name: &str) -> Key {
    Key::new(&ClusterName::root(), &pods(), "default", name)
}

/// All pods of the root cluster.
fn all_pods() -> Scope {
    Scope::Resource { cluster: ClusterName::root(), resource: pods(), namespace: None }
}

fn put(key: &Key, value: impl Into<String>) -> Op {
    Op::Put { key: key.clone(), value: value.into().into() }
}

fn delete(key: &Key) -> Op {
    Op::Delete { key: key.clone() }
}

fn txn<const P: usize>(preconditions: [Precondition; P], ops: Vec<Op>) -> Txn {
    Txn { preconditions: preconditions.into(), ops }
}

/// Commits without preconditions; returns the revision.
async fn commit(store: &dyn Store, ops: Vec<Op>) -> Revision {
    store.txn(txn([], ops)).await.unwrap().revision
}

/// The value as it was put, and that it is stamped with the record's revision.
fn unstamped(record: &Record) -> String {
    let text = std::str::from_utf8(&record.value).unwrap();
    let (stamp, value) = text.split_once(':').unwrap();
    assert_eq!(stamp, record.mod_revision.to_string(), "{} carries another revision", record.key);
    value.to_owned()
}

async fn next(stream: &mut WatchStream) -> Option<Result<Arc<crate::Event>, StoreError>> {
    tokio::time::timeout(Duration::from_secs(60), stream.recv()).await.expect("the watch is stuck")
}

/// Reads events up to and of a revision that has an event in the stream's scope.
async fn events_up_to(stream: &mut WatchStream, revision: Revision) -> Vec<Arc<crate::Event>> {
    let mut events = Vec::new();
    while events.last().is_none_or(|event: &Arc<crate::Event>| event.revision < revision) {
        events.push(next(stream).await.expect("the watch goes on").unwrap());
    }
    events
}

/// A fixed sequence without pattern.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        // Xorshift64.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap()
    }
}
