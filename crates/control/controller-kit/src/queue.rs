//! Queue: keys to look at, each once, in turns between clusters, with delays and backoff.
use crate::ObjectKey;
use crate::queue_metrics::QueueMetrics;
use api_meta::ClusterName;
use parking_lot::Mutex;
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

const FIRST_BACKOFF: Duration = Duration::from_millis(5);
const LAST_BACKOFF: Duration = Duration::from_secs(1000);

/// What is decided in less than this may be decided again at once.
const LONG: Duration = Duration::from_millis(2);
/// A key whose decision took longer rests so many times as long, so that no key, however large, keeps a processor busy.
const REST: u32 = 4;
const LONGEST_REST: Duration = Duration::from_secs(1);

/// How long to wait after so many failures in a row: 5 ms, doubling, at most 1,000 s, as upstream.
pub fn backoff(failures: u32) -> Duration {
    FIRST_BACKOFF.saturating_mul(1u32.checked_shl(failures.min(31)).unwrap_or(u32::MAX)).min(LAST_BACKOFF)
}

#[derive(Default)]
struct State {
    /// Keys to hand out and since when they wait, in order, by cluster; a cluster with none has no entry.
    ready: HashMap<ClusterName, VecDeque<(ObjectKey, Instant)>>,
    /// Whose turn it is. INVARIANT: holds exactly the clusters of `ready`, each once.
    turns: VecDeque<ClusterName>,
    /// Keys in `ready`, or wanted again while being worked on.
    wanted: HashSet<ObjectKey>,
    /// Since when it is worked on.
    working: HashMap<ObjectKey, Instant>,
    /// How many keys of a cluster are worked on; a cluster with none has no entry.
    working_in: HashMap<ClusterName, usize>,
    /// More of one cluster's keys than these are never worked on at once; 0: as many as there are.
    share: usize,
    delayed: BTreeSet<(Instant, ObjectKey)>,
    due: HashMap<ObjectKey, Instant>,
    /// Until when keys whose decisions take long are not handed out again.
    resting: HashMap<ObjectKey, Instant>,
    failures: HashMap<ObjectKey, u32>,
    metrics: Option<QueueMetrics>,
}

/// A work queue. A key that is added while somebody works on it comes again when they are done, so
/// one key is never worked on twice at once. Clusters take turns: a busy one can't starve the others.
#[derive(Default)]
pub struct Queue {
    state: Mutex<State>,
    changed: Notify,
}

impl Queue {
    /// A queue that is counted under this name.
    pub fn named(name: &'static str) -> Self {
        Self { state: Mutex::new(State { metrics: Some(QueueMetrics::of(name)), ..State::default() }), changed: Notify::new() }
    }

    /// From now on at most so many keys of one cluster are worked on at once, so that workers are left for the others.
    pub fn share(&self, at_once: usize) {
        self.state.lock().share = at_once;
    }

    pub fn add(&self, key: ObjectKey) {
        self.state.lock().add(key);
        self.changed.notify_one();
    }

    /// Adds the key after a delay; the earliest of several delays counts.
    pub fn add_after(&self, key: ObjectKey, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        self.state.lock().delay(key, Instant::now() + delay);
        self.changed.notify_one();
    }

    /// Tells how long it took to decide about a key that is being worked on.
    pub fn decided(&self, key: &ObjectKey, took: Duration) {
        if took < LONG {
            return;
        }
        let (mut state, now) = (self.state.lock(), Instant::now());
        state.resting.retain(|_, until| *until > now);
        state.resting.insert(key.clone(), now + took.saturating_mul(REST).min(LONGEST_REST));
    }

    /// Adds the key after its backoff, which grows with every retry until `forget`.
    pub fn retry(&self, key: ObjectKey) {
        let failures = {
            let mut state = self.state.lock();
            if let Some(metrics) = &state.metrics {
                metrics.retries.inc();
            }
            let failures = state.failures.entry(key.clone()).or_default();
            *failures += 1;
            *failures - 1
        };
        self.add_after(key, backoff(failures));
    }

    pub fn forget(&self, key: &ObjectKey) {
        self.state.lock().failures.remove(key);
    }

    /// Waits for the next key. Its worker must call `done`. Only one task may wait here.
    pub async fn next(&self) -> ObjectKey {
        loop {
            let earliest = {
                let mut state = self.state.lock();
                state.wake_due(Instant::now());
                if let Some(key) = state.take() {
                    return key;
                }
                state.delayed.first().map(|(at, _)| *at)
            };
            match earliest {
                None => self.changed.notified().await,
                Some(at) => {
                    tokio::select! {
                        () = self.changed.notified() => {}
                        () = tokio::time::sleep_until(at) => {}
                    }
                }
            }
        }
    }

    pub fn done(&self, key: &ObjectKey) {
        let mut state = self.state.lock();
        if let Some(since) = state.working.remove(key) {
            state.leave(&key.cluster);
            if let Some(metrics) = &state.metrics {
                metrics.works.observe(since.elapsed().as_secs_f64());
            }
        }
        if state.wanted.contains(key) {
            match state.rests_until(key) {
                Some(until) => {
                    state.wanted.remove(key);
                    state.delay(key.clone(), until);
                }
                None => state.line_up(key.clone()),
            }
        }
        drop(state);
        // Also for other keys of its cluster, which may have waited for their share.
        self.changed.notify_one();
    }

    /// Keys waiting now, without the delayed.
    pub fn len(&self) -> usize {
        self.state.lock().wanted.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl State {
    fn add(&mut self, key: ObjectKey) {
        if let Some(until) = self.rests_until(&key) {
            return self.delay(key, until);
        }
        if !self.wanted.insert(key.clone()) {
            return;
        }
        if let Some(metrics) = &self.metrics {
            metrics.adds.inc();
        }
        if !self.working.contains_key(&key) {
            self.line_up(key);
        }
    }

    fn rests_until(&self, key: &ObjectKey) -> Option<Instant> {
        let until = *self.resting.get(key)?;
        (until > Instant::now()).then_some(until)
    }

    fn delay(&mut self, key: ObjectKey, at: Instant) {
        match self.due.get(&key) {
            Some(earlier) if *earlier <= at => return,
            Some(later) => {
                let later = *later;
                self.delayed.remove(&(later, key.clone()));
            }
            None => {}
        }
        self.due.insert(key.clone(), at);
        self.delayed.insert((at, key));
    }

    fn line_up(&mut self, key: ObjectKey) {
        let line = self.ready.entry(key.cluster.clone()).or_default();
        if line.is_empty() {
            self.turns.push_back(key.cluster.clone());
        }
        line.push_back((key, Instant::now()));
        if let Some(metrics) = &self.metrics {
            metrics.depth.inc();
        }
    }

    fn leave(&mut self, cluster: &ClusterName) {
        if let Some(count) = self.working_in.get_mut(cluster) {
            *count -= 1;
            if *count == 0 {
                self.working_in.remove(cluster);
            }
        }
    }

    fn take(&mut self) -> Option<ObjectKey> {
        let has_share = |cluster: &ClusterName| self.share == 0 || self.working_in.get(cluster).is_none_or(|count| *count < self.share);
        let at = self.turns.iter().position(has_share)?;
        let cluster = self.turns.remove(at)?;
        *self.working_in.entry(cluster.clone()).or_default() += 1;
        let line = self.ready.get_mut(&cluster).expect("a cluster with a turn has a line");
        let (key, since) = line.pop_front().expect("a line is never empty");
        if line.is_empty() {
            self.ready.remove(&cluster);
        } else {
            self.turns.push_back(cluster);
        }
        self.wanted.remove(&key);
        let now = Instant::now();
        if let Some(metrics) = &self.metrics {
            metrics.depth.dec();
            metrics.waits.observe((now - since).as_secs_f64());
        }
        self.working.insert(key.clone(), now);
        Some(key)
    }

    fn wake_due(&mut self, now: Instant) {
        while self.delayed.first().is_some_and(|(at, _)| *at <= now) {
            let (_, key) = self.delayed.pop_first().expect("the first was just seen");
            self.due.remove(&key);
            self.add(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(cluster: &str, name: &str) -> ObjectKey {
        ObjectKey::new(&ClusterName::parse(cluster).unwrap(), "n", name)
    }

    async fn drain(queue: &Queue) -> String {
        let mut out = Vec::new();
        while let Ok(key) = tokio::time::timeout(Duration::from_millis(1), queue.next()).await {
            out.push(format!("{}{}", key.cluster, key.name));
            queue.done(&key);
        }
        out.join(" ")
    }

    #[tokio::test(start_paused = true)]
    async fn clusters_take_turns_and_a_key_is_queued_once() {
        let queue = Queue::default();
        for name in ["1", "2", "3", "1"] {
            queue.add(key("a", name));
        }
        queue.add(key("b", "1"));
        queue.add(key("b", "2"));
        assert_eq!(drain(&queue).await, "a1 b1 a2 b2 a3");
    }

    #[tokio::test(start_paused = true)]
    async fn a_cluster_is_worked_on_by_its_share_at_most() {
        let queue = Queue::default();
        queue.share(2);
        for name in ["1", "2", "3"] {
            queue.add(key("busy", name));
        }
        let (one, two) = (queue.next().await, queue.next().await);
        queue.add(key("quiet", "1"));
        let next = || tokio::time::timeout(Duration::from_millis(1), queue.next());
        assert_eq!(next().await.ok(), Some(key("quiet", "1")), "it need not wait for the busy one's");
        assert_eq!(next().await.ok(), None);
        queue.done(&one);
        assert_eq!(next().await.ok(), Some(key("busy", "3")));
        queue.done(&two);
        queue.done(&key("busy", "3"));
        queue.done(&key("quiet", "1"));
        assert!(queue.state.lock().working_in.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_added_during_its_work_comes_again_after_it() {
        let queue = Queue::default();
        queue.add(key("a", "1"));
        let working = queue.next().await;
        queue.add(key("a", "1"));
        queue.add(key("a", "2"));
        assert_eq!(drain(&queue).await, "a2");
        queue.done(&working);
        assert_eq!(drain(&queue).await, "a1");
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_is_long_decided_about_rests() {
        let queue = Queue::default();
        let (large, small) = (key("a", "large"), key("a", "small"));
        let start = Instant::now();
        for (key, took, comes_after) in [(&large, 50, 200), (&small, 1, 0), (&large, 60_000, 1000)] {
            queue.add(key.clone());
            let working = queue.next().await;
            queue.decided(&working, Duration::from_millis(took));
            queue.add(key.clone());
            let began = start.elapsed();
            queue.done(&working);
            // However often it is wanted meanwhile.
            queue.add(key.clone());
            assert_eq!(queue.next().await, *key);
            assert_eq!((start.elapsed() - began).as_millis().div_euclid(10) * 10, comes_after, "{key}");
            queue.done(key);
        }
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(tokio::time::timeout(Duration::from_secs(60), queue.next()).await.is_err(), "it came once only");
    }

    #[tokio::test(start_paused = true)]
    async fn the_earliest_delay_counts_and_backoff_grows_until_forgotten() {
        let queue = Queue::default();
        queue.add_after(key("a", "1"), Duration::from_secs(9));
        queue.add_after(key("a", "1"), Duration::from_secs(3));
        queue.add_after(key("a", "1"), Duration::from_secs(5));
        let start = Instant::now();
        let first = queue.next().await;
        assert_eq!(start.elapsed().as_secs(), 3);
        queue.done(&first);
        assert!(tokio::time::timeout(Duration::from_secs(60), queue.next()).await.is_err());
        let start = Instant::now();
        for _ in 0..3 {
            queue.retry(first.clone());
            let again = queue.next().await;
            queue.done(&again);
        }
        assert_eq!(start.elapsed().as_millis(), 5 + 10 + 20);
        queue.forget(&first);
        assert_eq!((backoff(0), backoff(17), backoff(40)), (FIRST_BACKOFF, Duration::from_millis(655_360), LAST_BACKOFF));
    }
}
