//! Checks of watches: no gap, no repeat, among writers, across restarts, from long ago, when too slow.
use super::{Dice, Harness, all_pods, commit, delete, events_up_to, next, pod, put, txn, unstamped};
use crate::{Event, RangeRequest, Revision, Store, StoreError};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

/// Starts tasks that commit random changes of pods, each its number of transactions; each returns its own events.
fn start_writers(store: &Arc<dyn Store>, tasks: u64, transactions: usize) -> Vec<JoinHandle<Vec<Arc<Event>>>> {
    let write = |task: u64| {
        let store = store.clone();
        tokio::spawn(async move {
            let (mut dice, mut events) = (Dice(task + 1), Vec::new());
            for round in 0..transactions {
                let first = dice.below(20);
                let op = |name: usize, roll: usize| {
                    let key = pod(&format!("n{name:02}"));
                    if roll == 0 { delete(&key) } else { put(&key, format!("{task}-{round}")) }
                };
                let ops = vec![op(first, dice.below(4)), op(20 + first, dice.below(4))];
                events.extend(store.txn(txn([], ops)).await.unwrap().events);
            }
            events
        })
    };
    (0..tasks).map(write).collect()
}

/// All events of the writers, as the store's history has to show them.
async fn finish(writers: Vec<JoinHandle<Vec<Arc<Event>>>>) -> Vec<Shown> {
    let mut events = Vec::new();
    for writer in writers {
        events.extend(writer.await.unwrap());
    }
    // Stable: changes of one transaction keep their order.
    events.sort_by_key(|event| event.revision);
    events.iter().map(show).collect()
}

type Shown = (Revision, String, bool, String, Option<Revision>);

fn show(event: &Arc<Event>) -> Shown {
    let previous = event.previous.as_ref().map(|previous| previous.mod_revision);
    (event.revision, event.record.key.as_str().to_owned(), event.deleted, unstamped(&event.record), previous)
}

/// Ends the writers' history with one more event, so that watches know when they have seen it all.
async fn seal(store: &dyn Store) -> Revision {
    commit(store, vec![put(&pod("seal"), "x")]).await
}

async fn seen(store: &dyn Store, after: Revision, end: Revision) -> Vec<Shown> {
    let mut watch = store.watch(all_pods(), after).await.unwrap();
    let mut events = events_up_to(&mut watch, end).await;
    events.pop();
    events.iter().map(show).collect()
}

pub async fn a_watch_has_no_gap_and_no_repeat_among_writers<H: Harness>(harness: H) {
    let store = harness.open().await;
    let start = store.revision();
    let writers = start_writers(&store, 8, 60);
    let mut watches = Vec::new();
    let mut dice = Dice(99);
    while writers.iter().any(|writer| !writer.is_finished()) {
        let newest = store.revision();
        let back = dice.below(usize::try_from(newest - start).unwrap() + 1) as u64;
        for after in [newest, newest - back] {
            watches.push((after, store.watch(all_pods(), after).await.unwrap()));
        }
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    let history = finish(writers).await;
    let end = seal(&*store).await;
    assert!(watches.len() > 4);
    for (after, mut watch) in watches {
        let mut events = events_up_to(&mut watch, end).await;
        events.pop();
        let expected: Vec<_> = history.iter().filter(|event| event.0 > after).cloned().collect();
        assert_eq!(events.iter().map(show).collect::<Vec<_>>(), expected, "watch after {after}");
    }
}

pub async fn a_list_and_the_watch_from_it_join_without_a_seam<H: Harness>(harness: H) {
    let store = harness.open().await;
    let list = || RangeRequest { scope: all_pods(), after: None, limit: 0, revision: None };
    let writers = start_writers(&store, 4, 80);
    let mut followers = Vec::new();
    while writers.iter().any(|writer| !writer.is_finished()) {
        let listed = store.range(list()).await.unwrap();
        let watch = store.watch(all_pods(), listed.revision).await.unwrap();
        let state: BTreeMap<_, _> = listed.records.iter().map(|record| (record.key.clone(), record.mod_revision)).collect();
        followers.push((state, watch));
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    finish(writers).await;
    let end = seal(&*store).await;
    let last: BTreeMap<_, _> = store.range(list()).await.unwrap().records.iter().map(|record| (record.key.clone(), record.mod_revision)).collect();
    for (mut state, mut watch) in followers {
        for event in events_up_to(&mut watch, end).await {
            let key = event.record.key.clone();
            let before = if event.deleted { state.remove(&key) } else { state.insert(key, event.revision) };
            assert_eq!(before, event.previous.as_ref().map(|previous| previous.mod_revision), "what {} was before", event.record.key);
        }
        assert_eq!(state, last);
    }
}

pub async fn the_revision_advances_after_its_events_are_handed_out<H: Harness>(harness: H) {
    let store = harness.open().await;
    let mut seen = commit(&*store, vec![put(&pod("first"), "x")]).await;
    let mut watch = store.watch(all_pods(), seen).await.unwrap();
    let writers: Vec<_> = (0..4)
        .map(|task| {
            let store = store.clone();
            tokio::spawn(async move {
                for _ in 0..100 {
                    commit(&*store, vec![put(&pod(&format!("w{task}")), "x")]).await;
                }
            })
        })
        .collect();
    while writers.iter().any(|writer| !writer.is_finished()) {
        let revision = store.revision();
        while let Ok(event) = watch.try_recv() {
            seen = event.unwrap().revision;
        }
        assert!(seen >= revision, "revision {revision} is announced but the stream is at {seen}");
        tokio::task::yield_now().await;
    }
}

pub async fn a_slow_watcher_is_told_and_dropped<H: Harness>(harness: H) {
    const AT_ONCE: usize = 64;
    let store = harness.open().await;
    let start = store.revision();
    let mut slow = store.watch(all_pods(), start).await.unwrap();
    let mut quick = store.watch(all_pods(), start).await.unwrap();
    for _ in 0..H::WATCH_BUFFER.div_ceil(AT_ONCE) + 1 {
        let revision = commit(&*store, (0..AT_ONCE).map(|name| put(&pod(&format!("n{name}")), "x")).collect()).await;
        for _ in 0..AT_ONCE {
            assert_eq!(next(&mut quick).await.unwrap().unwrap().revision, revision);
        }
    }
    let mut events = 0;
    loop {
        match next(&mut slow).await {
            Some(Ok(event)) => {
                assert_eq!(event.revision, start + 1 + (events / AT_ONCE) as u64, "what it gets is without gap");
                events += 1;
            }
            Some(Err(StoreError::Slow)) => break,
            Some(Err(error)) => panic!("{error}"),
            None => panic!("it is not told why it ends"),
        }
    }
    assert!(events <= H::WATCH_BUFFER);
    assert!(next(&mut slow).await.is_none());
}

pub async fn a_watch_from_long_ago_gets_everything<H: Harness>(harness: H) {
    let store = harness.open().await;
    let start = store.revision();
    let history = finish(start_writers(&store, 8, H::WATCH_BUFFER / 4)).await;
    assert!(history.len() > H::WATCH_BUFFER * 2);
    let end = seal(&*store).await;
    assert_eq!(seen(&*store, start, end).await, history);
    // And from disk, while writers go on.
    let store = harness.open().await;
    let writers = start_writers(&store, 2, 50);
    assert_eq!(seen(&*store, start, end).await, history);
    let middle = history[history.len() / 2].0;
    let expected: Vec<_> = history.iter().filter(|event| event.0 > middle).cloned().collect();
    assert_eq!(seen(&*store, middle, end).await, expected);
    finish(writers).await;
}

pub async fn a_watch_goes_on_across_a_restart<H: Harness>(harness: H) {
    let mut store = harness.open().await;
    let start = store.revision();
    let mut after = start;
    let (mut expected, mut got) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let mut watch = store.watch(all_pods(), after).await.unwrap();
        expected.extend(finish(start_writers(&store, 4, 20)).await);
        // It sees only a part before the store goes down.
        for _ in 0..30 {
            let event = next(&mut watch).await.unwrap().unwrap();
            got.push(show(&event));
            after = event.revision;
        }
        // A watcher resumes by revision, so it has to take a revision whole.
        while got.len() < expected.len() && expected[got.len()].0 == after {
            got.push(show(&next(&mut watch).await.unwrap().unwrap()));
        }
        store = harness.open().await;
        while let Some(event) = next(&mut watch).await {
            assert!(matches!(event, Ok(_) | Err(StoreError::Closed)));
        }
    }
    let end = seal(&*store).await;
    got.extend(seen(&*store, after, end).await);
    assert_eq!(got, expected);
    assert_eq!(seen(&*store, start, end).await, expected);
}
