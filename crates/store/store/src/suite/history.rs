//! Checks of history: compaction, restarts and the end.
use super::model::Model;
use super::{Dice, Harness, all_pods, commit, delete, events_up_to, next, pod, put, txn};
use crate::{RangeRequest, Revision, Store, StoreError};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

fn list(revision: Option<Revision>) -> RangeRequest {
    RangeRequest { scope: all_pods(), after: None, limit: 0, revision }
}

pub async fn compacted_history_is_refused_and_the_rest_kept<H: Harness>(harness: H) {
    async fn check(store: &dyn Store, oldest: Revision, newest: Revision) {
        assert_eq!((store.oldest(), store.revision()), (oldest, newest));
        let compacted = |error: Option<StoreError>| match error {
            Some(StoreError::Compacted { requested, oldest }) => (requested, oldest),
            other => panic!("{other:?} instead of compacted"),
        };
        assert_eq!(compacted(store.watch(all_pods(), oldest - 1).await.err()), (oldest - 1, oldest));
        assert_eq!(compacted(store.range(list(Some(oldest - 1))).await.err()), (oldest - 1, oldest));
        let at_oldest = store.range(list(Some(oldest))).await.unwrap();
        let keys: Vec<_> = at_oldest.records.iter().map(|record| (record.key.name(), record.mod_revision)).collect();
        assert_eq!(keys, [("a", oldest), ("c", oldest - 3)]);
        let mut watch = store.watch(all_pods(), oldest).await.unwrap();
        let events: Vec<_> = events_up_to(&mut watch, newest).await.iter().map(|event| (event.record.key.name().to_owned(), event.deleted)).collect();
        assert_eq!(events, [("a".into(), false), ("c".into(), true)]);
        assert_eq!(store.range(list(None)).await.unwrap().records.len(), 1);
    }
    let store = harness.open().await;
    let (a, b, c) = (pod("a"), pod("b"), pod("c"));
    let first = commit(&*store, vec![put(&a, "1"), put(&b, "1"), put(&c, "1")]).await;
    commit(&*store, vec![put(&a, "2")]).await;
    commit(&*store, vec![delete(&b)]).await;
    let oldest = commit(&*store, vec![put(&a, "3")]).await;
    assert_eq!(oldest, first + 3);
    commit(&*store, vec![put(&a, "4")]).await;
    let newest = commit(&*store, vec![delete(&c)]).await;
    store.compact(oldest).await.unwrap();
    check(&*store, oldest, newest).await;
    // What is compacted is compacted already.
    store.compact(first).await.unwrap();
    store.compact(oldest).await.unwrap();
    check(&*store, oldest, newest).await;
    let store = harness.open().await;
    check(&*store, oldest, newest).await;
}

pub async fn compaction_at_any_revision_keeps_what_came_after<H: Harness>(harness: H) {
    let (mut model, mut dice) = (Model::default(), Dice(3));
    let mut store = harness.open().await;
    model.change(&*store, &mut dice, 80).await;
    let revisions: Vec<_> = model.revisions.keys().copied().collect();
    for (round, oldest) in revisions.iter().copied().enumerate().step_by(9) {
        store.compact(oldest).await.unwrap();
        model.check(&*store, oldest).await;
        if round % 2 == 0 {
            store = harness.open().await;
            model.check(&*store, oldest).await;
            assert_eq!(store.oldest(), oldest);
        }
    }
    model.change(&*store, &mut dice, 5).await;
    store.compact(store.revision()).await.unwrap();
    model.check(&*store, store.revision()).await;
}

pub async fn compaction_disturbs_neither_writers_nor_watchers<H: Harness>(harness: H) {
    let store = harness.open().await;
    let start = store.revision();
    let mut watch = store.watch(all_pods(), start).await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..4)
        .map(|task| {
            let (store, stop) = (store.clone(), stop.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    commit(&*store, vec![put(&pod(&format!("w{task}")), "x")]).await;
                }
            })
        })
        .collect();
    let mut expected = start;
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        store.compact(store.revision()).await.unwrap();
        while let Ok(event) = watch.try_recv() {
            expected += 1;
            assert_eq!(event.unwrap().revision, expected);
        }
    }
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    while expected < store.revision() {
        expected += 1;
        assert_eq!(next(&mut watch).await.unwrap().unwrap().revision, expected);
    }
    assert_eq!(store.range(list(None)).await.unwrap().records.len(), 4);
}

pub async fn revisions_never_go_down<H: Harness>(harness: H) {
    let mut newest = 0;
    for round in 0..4 {
        let store = harness.open().await;
        assert!(store.revision() > 0, "clients take 0 for any revision");
        assert!(store.revision() >= newest);
        newest = store.revision();
        let mut step = async |ops| {
            let revision = commit(&*store, ops).await;
            assert_eq!(revision, newest + 1);
            newest = revision;
        };
        step(vec![put(&pod("a"), "x")]).await;
        step(vec![delete(&pod("a"))]).await;
        if round % 2 == 1 {
            // Nothing of the newest revision is left to find it by.
            store.compact(newest).await.unwrap();
        }
    }
    assert_eq!(harness.open().await.revision(), newest);
}

pub async fn a_closed_store_refuses_everything<H: Harness>(harness: H) {
    let store = harness.open().await;
    let revision = commit(&*store, vec![put(&pod("a"), "x")]).await;
    let mut watch = store.watch(all_pods(), revision).await.unwrap();
    // Opening it again closes this one.
    let reopened = harness.open().await;
    assert!(matches!(next(&mut watch).await, None | Some(Err(StoreError::Closed))));
    assert!(matches!(store.get(&pod("a")).await, Err(StoreError::Closed)));
    assert!(matches!(store.range(list(None)).await, Err(StoreError::Closed)));
    assert!(matches!(store.watch(all_pods(), revision).await, Err(StoreError::Closed)));
    assert!(matches!(store.compact(revision).await, Err(StoreError::Closed)));
    assert!(matches!(store.txn(txn([], vec![put(&pod("a"), "y")])).await, Err(StoreError::Closed)));
    assert!(reopened.get(&pod("a")).await.unwrap().is_some());
}
