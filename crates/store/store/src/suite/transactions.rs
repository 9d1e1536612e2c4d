//! Checks of transactions: atomic, compare-and-swap, revisions, what a write's answer promises.
use super::{Harness, all_pods, commit, delete, pod, pods, put, txn, unstamped};
use crate::{Key, Precondition, RangeRequest, Record, Store, StoreError};
use api_meta::ClusterName;
use std::sync::Arc;

pub async fn a_transaction_commits_all_or_nothing<H: Harness>(harness: H) {
    let store = harness.open().await;
    let (a, b) = (pod("a"), pod("b"));
    let revision = commit(&*store, vec![put(&a, "1")]).await;
    let both = || vec![put(&b, "2"), delete(&a)];
    for (precondition, key, held) in [
        (Precondition::AtRevision(a.clone(), revision + 1), &a, Some(revision)),
        (Precondition::AtRevision(b.clone(), revision), &b, None),
        (Precondition::Absent(a.clone()), &a, Some(revision)),
        (Precondition::Exists(b.clone()), &b, None),
    ] {
        match store.txn(txn([Precondition::Exists(a.clone()), precondition.clone()], both())).await {
            Err(StoreError::PreconditionFailed { key: failed, current }) => {
                assert_eq!((&failed, current.map(|current| current.0.mod_revision)), (key, held), "{precondition:?}");
            }
            _ => panic!("{precondition:?} must fail"),
        }
    }
    assert_eq!(store.revision(), revision);
    assert!(store.get(&b).await.unwrap().is_none());
    let met = [Precondition::AtRevision(a.clone(), revision), Precondition::Absent(b.clone()), Precondition::Exists(a.clone())];
    assert_eq!(store.txn(txn(met, both())).await.unwrap().revision, revision + 1);
    assert!(store.get(&a).await.unwrap().is_none());
    assert_eq!(unstamped(&store.get(&b).await.unwrap().unwrap()), "2");
}

pub async fn all_changes_of_a_transaction_share_a_revision<H: Harness>(harness: H) {
    let store = harness.open().await;
    let (a, b, c) = (pod("a"), pod("b"), pod("c"));
    let first = commit(&*store, vec![put(&b, "1"), put(&c, "1")]).await;
    let mut watch = store.watch(all_pods(), first).await.unwrap();
    let committed = store.txn(txn([], vec![put(&c, "2"), delete(&b), put(&a, "2")])).await.unwrap();
    assert_eq!(committed.revision, first + 1);
    let seen = super::events_up_to(&mut watch, first + 1).await;
    let rest = [watch.recv().await.unwrap().unwrap(), watch.recv().await.unwrap().unwrap()];
    let seen: Vec<_> = seen.into_iter().chain(rest).collect();
    for events in [&committed.events, &seen] {
        let shown: Vec<_> = events
            .iter()
            .map(|e| (e.record.key.name(), e.revision, e.record.mod_revision, e.record.create_revision, e.deleted, e.previous.is_some()))
            .collect();
        assert_eq!(
            shown,
            [
                ("c", first + 1, first + 1, first, false, true),
                ("b", first + 1, first + 1, first, true, true),
                ("a", first + 1, first + 1, first + 1, false, false)
            ]
        );
    }
}

pub async fn what_changes_nothing_takes_no_revision<H: Harness>(harness: H) {
    let store = harness.open().await;
    let revision = commit(&*store, vec![put(&pod("a"), "1")]).await;
    for ops in [vec![], vec![delete(&pod("absent"))]] {
        let committed = store.txn(txn([Precondition::Exists(pod("a"))], ops)).await.unwrap();
        assert_eq!((committed.revision, committed.events.len()), (revision, 0));
    }
    assert_eq!(store.revision(), revision);
    let committed = store.txn(txn([], vec![delete(&pod("absent")), put(&pod("b"), "1")])).await.unwrap();
    assert_eq!((committed.revision, committed.events.len()), (revision + 1, 1));
}

pub async fn compare_and_swap_loses_no_increment<H: Harness>(harness: H) {
    const TASKS: usize = 16;
    const EACH: usize = 25;
    async fn increment(store: &dyn Store, counter: &Key, mut seen: Arc<Record>) {
        loop {
            let count: usize = unstamped(&seen).parse().unwrap();
            let swap = txn([Precondition::AtRevision(counter.clone(), seen.mod_revision)], vec![put(counter, (count + 1).to_string())]);
            match store.txn(swap).await {
                Ok(_) => return,
                Err(StoreError::PreconditionFailed { current, .. }) => seen = current.unwrap().0,
                Err(error) => panic!("{error}"),
            }
        }
    }
    let store = harness.open().await;
    let counter = pod("counter");
    let start = commit(&*store, vec![put(&counter, "0")]).await;
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| {
            let (store, counter) = (store.clone(), counter.clone());
            tokio::spawn(async move {
                for _ in 0..EACH {
                    let seen = store.get(&counter).await.unwrap().unwrap();
                    increment(&*store, &counter, seen).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let total = TASKS * EACH;
    assert_eq!(unstamped(&store.get(&counter).await.unwrap().unwrap()), total.to_string());
    assert_eq!(store.revision(), start + total as u64);
}

pub async fn one_of_many_creators_wins<H: Harness>(harness: H) {
    let store = harness.open().await;
    let key = pod("one");
    let tasks: Vec<_> = (0..32)
        .map(|task| {
            let (store, key) = (store.clone(), key.clone());
            tokio::spawn(async move { store.txn(txn([Precondition::Absent(key.clone())], vec![put(&key, task.to_string())])).await.is_ok().then_some(task) })
        })
        .collect();
    let mut winners = Vec::new();
    for task in tasks {
        winners.extend(task.await.unwrap());
    }
    let [winner] = winners[..] else { panic!("{winners:?} all created it") };
    assert_eq!(unstamped(&store.get(&key).await.unwrap().unwrap()), winner.to_string());
}

pub async fn a_deletion_shows_the_last_value<H: Harness>(harness: H) {
    let store = harness.open().await;
    let a = pod("a");
    let created = commit(&*store, vec![put(&a, "1")]).await;
    let updated = commit(&*store, vec![put(&a, "2")]).await;
    let deleted = commit(&*store, vec![delete(&a)]).await;
    let created_again = commit(&*store, vec![put(&a, "3")]).await;
    for _ in 0..2 {
        // The second time it comes from where a restart has to find it.
        let store = harness.open().await;
        let mut watch = store.watch(all_pods(), created).await.unwrap();
        let events = super::events_up_to(&mut watch, created_again).await;
        let shown: Vec<_> = events
            .iter()
            .map(|e| (e.revision, e.deleted, unstamped(&e.record), e.record.create_revision, e.previous.as_ref().map(|p| (p.mod_revision, unstamped(p)))))
            .collect();
        assert_eq!(
            shown,
            [
                (updated, false, "2".into(), created, Some((created, "1".into()))),
                (deleted, true, "2".into(), created, Some((updated, "2".into()))),
                (created_again, false, "3".into(), created_again, None),
            ]
        );
    }
}

pub async fn an_acknowledged_write_is_seen_by_every_later_read<H: Harness>(harness: H) {
    let store = harness.open().await;
    let tasks: Vec<_> = (0..8)
        .map(|task| {
            let store = store.clone();
            tokio::spawn(async move {
                let key = Key::new(&ClusterName::root(), &pods(), "default", &format!("w{task}"));
                for round in 0..50 {
                    let revision = commit(&*store, vec![put(&key, round.to_string())]).await;
                    assert_eq!(store.get(&key).await.unwrap().unwrap().mod_revision, revision);
                    assert!(store.revision() >= revision);
                    let range = store.range(RangeRequest { scope: all_pods(), after: None, limit: 0, revision: None }).await.unwrap();
                    assert!(range.revision >= revision);
                    assert!(range.records.iter().any(|record| record.key == key && record.mod_revision == revision));
                    let newest = range.records.iter().map(|record| record.mod_revision).max().unwrap();
                    assert_eq!(newest, range.revision, "a range is true for the revision it names");
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}
