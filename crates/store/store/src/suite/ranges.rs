//! Checks of ranges: pages, counts, past and future revisions.
use super::model::Model;
use super::{Dice, Harness, all_pods, commit, delete, pod, pods, put};
use crate::{Key, RangeRequest, RangeResponse, Revision, StoreError};
use api_meta::ClusterName;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

fn shown(range: &RangeResponse) -> Vec<(String, Revision)> {
    range.records.iter().map(|record| (record.key.as_str().to_owned(), record.mod_revision)).collect()
}

pub async fn pages_add_up_to_the_whole<H: Harness>(harness: H) {
    let store = harness.open().await;
    let keys: Vec<_> = ["a", "a-b", "b"]
        .iter()
        .flat_map(|namespace| (0..5).map(move |name| Key::new(&ClusterName::root(), &pods(), namespace, &format!("n{name}"))))
        .collect();
    commit(&*store, keys.iter().map(|key| put(key, "x")).collect()).await;
    let mut sorted: Vec<_> = keys.iter().map(Key::as_str).collect();
    sorted.sort_unstable();
    let positions = sorted.iter().copied().chain(["", "/", "/root/core/pods/a", "/root/core/pods/a/n1\u{1}", "/zzz", "zzz"]);
    for after in positions.map(Some).chain([None]) {
        let rest: Vec<_> = sorted.iter().copied().filter(|key| after.is_none_or(|after| *key > after)).collect();
        for limit in 0..=sorted.len() + 1 {
            let request = RangeRequest { scope: all_pods(), after: after.map(str::to_owned), limit, revision: None };
            let range = store.range(request).await.unwrap();
            let expected = &rest[..if limit == 0 { rest.len() } else { limit.min(rest.len()) }];
            let got: Vec<_> = range.records.iter().map(|record| record.key.as_str()).collect();
            assert_eq!((&*got, range.remaining), (expected, rest.len() - expected.len()), "after {after:?} with limit {limit}");
        }
    }
}

pub async fn pages_at_a_revision_stand_still_while_writers_go_on<H: Harness>(harness: H) {
    let store = harness.open().await;
    commit(&*store, (0..40).map(|name| put(&pod(&format!("n{name:02}")), "0")).collect()).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..4u64)
        .map(|writer| {
            let (store, stop) = (store.clone(), stop.clone());
            tokio::spawn(async move {
                let mut dice = Dice(writer + 1);
                while !stop.load(Ordering::Relaxed) {
                    let key = pod(&format!("n{:02}", dice.below(60)));
                    let op = if dice.below(2) == 0 { delete(&key) } else { put(&key, "1") };
                    commit(&*store, vec![op]).await;
                }
            })
        })
        .collect();
    for _ in 0..20 {
        let whole = store.range(RangeRequest { scope: all_pods(), after: None, limit: 0, revision: None }).await.unwrap();
        let whole_keys = shown(&whole);
        let (mut paged, mut after) = (Vec::new(), None);
        while paged.len() < whole_keys.len() {
            // Let writers get ahead between pages.
            commit(&*store, vec![put(&pod("n00"), "2")]).await;
            let request = RangeRequest { scope: all_pods(), after: after.take(), limit: 7, revision: Some(whole.revision) };
            let page = store.range(request).await.unwrap();
            paged.extend(shown(&page));
            assert_eq!((page.revision, page.remaining), (whole.revision, whole_keys.len() - paged.len()));
            after = paged.last().map(|(key, _)| key.clone());
        }
        assert_eq!(paged, whole_keys);
    }
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
}

pub async fn every_kept_revision_can_be_read<H: Harness>(harness: H) {
    let (mut model, mut dice) = (Model::default(), Dice(7));
    let store = harness.open().await;
    model.change(&*store, &mut dice, 60).await;
    model.check(&*store, 0).await;
    let store = harness.open().await;
    model.check(&*store, 0).await;
    model.change(&*store, &mut dice, 30).await;
    model.check(&*store, 0).await;
}

pub async fn the_future_is_refused<H: Harness>(harness: H) {
    let store = harness.open().await;
    let newest = commit(&*store, vec![put(&pod("a"), "1")]).await;
    let next = newest + 1;
    let is_future = |error: Option<StoreError>| matches!(error, Some(StoreError::Future { requested, newest: known }) if (requested, known) == (next, newest));
    assert!(is_future(store.range(RangeRequest { scope: all_pods(), after: None, limit: 0, revision: Some(next) }).await.err()));
    assert!(is_future(store.watch(all_pods(), next).await.err()));
    assert!(is_future(store.compact(next).await.err()));
    assert!(store.watch(all_pods(), newest).await.is_ok());
}
