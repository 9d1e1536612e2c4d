//! Queue: pods to place: ready, backing off, or waiting for something to change.
use crate::{Plugins, PodInfo};
use api_meta::ClusterName;
use controller_kit::ObjectKey;
use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeSet, BinaryHeap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A pod on its way.
#[derive(Clone, Debug)]
pub struct Pending {
    pub info: Arc<PodInfo>,
    /// Failed attempts so far.
    pub attempts: u32,
    /// When it first came.
    since: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    Ready,
    BackingOff {
        until: Instant,
    },
    Unschedulable {
        since: Instant,
        refused_by: Plugins,
        until: Instant,
    },
    /// Being placed right now.
    InFlight,
}

struct Entry {
    pending: Pending,
    place: Place,
    /// Tells entries of the heap that are out of date.
    turn: u64,
}

struct Ready {
    priority: i32,
    since: Instant,
    turn: u64,
    key: ObjectKey,
}

impl Ord for Ready {
    /// The most important first, then who came first.
    fn cmp(&self, other: &Self) -> Ordering {
        (self.priority, Reverse(self.since), Reverse(self.turn)).cmp(&(other.priority, Reverse(other.since), Reverse(other.turn)))
    }
}
impl PartialOrd for Ready {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl PartialEq for Ready {
    fn eq(&self, other: &Self) -> bool {
        self.turn == other.turn
    }
}
impl Eq for Ready {}

/// Clusters take turns; priorities count within each, for they are each cluster's own.
pub struct Queue {
    entries: HashMap<ObjectKey, Entry>,
    ready: HashMap<ClusterName, BinaryHeap<Ready>>,
    /// INVARIANT: exactly the clusters of `ready`, each once.
    turns: VecDeque<ClusterName>,
    /// The unschedulable by what refused them and by cluster, so that a change finds those it may help.
    waiting: HashMap<Plugins, HashMap<ClusterName, HashSet<ObjectKey>>>,
    /// When someone's backoff or patience ends.
    deadlines: BTreeSet<(Instant, ObjectKey)>,
    next_turn: u64,
    initial_backoff: Duration,
    max_backoff: Duration,
    patience: Duration,
}

impl Queue {
    pub fn new(initial_backoff: Duration, max_backoff: Duration, patience: Duration) -> Self {
        Self {
            entries: HashMap::new(),
            ready: HashMap::new(),
            turns: VecDeque::new(),
            waiting: HashMap::new(),
            deadlines: BTreeSet::new(),
            next_turn: 0,
            initial_backoff,
            max_backoff,
            patience,
        }
    }

    /// A pod came or changed. A changed one that waits is tried again if `helps`: its change may have helped.
    pub fn upsert(&mut self, info: Arc<PodInfo>, helps: bool, now: Instant) {
        let key = info.key.clone();
        match self.entries.get_mut(&key) {
            None => {
                let pending = Pending { info, attempts: 0, since: now };
                self.entries.insert(key.clone(), Entry { pending, place: Place::InFlight, turn: 0 });
                self.make_ready(&key);
            }
            Some(entry) => {
                let priority_changed = entry.pending.info.priority != info.priority;
                entry.pending.info = info;
                match entry.place {
                    Place::Ready if priority_changed => self.make_ready(&key),
                    Place::Unschedulable { until, .. } if helps => self.leave_waiting(&key, until, now),
                    _ => {}
                }
            }
        }
    }

    /// The pod is gone, placed or not ours any more.
    pub fn remove(&mut self, key: &ObjectKey) {
        if let Some(entry) = self.entries.remove(key) {
            self.forget_deadline(key, entry.place);
        }
    }

    #[cfg(test)]
    pub fn contains(&self, key: &ObjectKey) -> bool {
        self.entries.contains_key(key)
    }

    /// The next pod, which is in flight until `failed`, `back_off` or `remove`.
    pub fn pop(&mut self, now: Instant) -> Option<Pending> {
        self.wake_due(now);
        loop {
            let cluster = self.turns.pop_front()?;
            let heap = self.ready.get_mut(&cluster).expect("a cluster with a turn has pods");
            let ready = heap.pop().expect("a cluster with a turn has pods");
            if heap.is_empty() {
                self.ready.remove(&cluster);
            } else {
                self.turns.push_back(cluster);
            }
            if let Some(entry) = self.entries.get_mut(&ready.key)
                && entry.turn == ready.turn
                && entry.place == Place::Ready
            {
                entry.place = Place::InFlight;
                return Some(entry.pending.clone());
            }
        }
    }

    /// When `pop` may give something next without any change.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// It fits nowhere: it waits for a change that concerns what refused it.
    pub fn unschedulable(&mut self, key: &ObjectKey, refused_by: Plugins, now: Instant) {
        let (initial, max, patience) = (self.initial_backoff, self.max_backoff, self.patience);
        let Some(entry) = self.entries.get_mut(key) else { return };
        entry.pending.attempts += 1;
        let until = now + backoff(initial, max, entry.pending.attempts);
        entry.place = Place::Unschedulable { since: now, refused_by, until };
        self.waiting.entry(refused_by).or_default().entry(key.cluster.clone()).or_default().insert(key.clone());
        self.deadlines.insert((now + patience, key.clone()));
    }

    /// Something went wrong that may not go wrong again: after a backoff it is tried again.
    pub fn back_off(&mut self, key: &ObjectKey, now: Instant) {
        let (initial, max) = (self.initial_backoff, self.max_backoff);
        let Some(entry) = self.entries.get_mut(key) else { return };
        entry.pending.attempts += 1;
        let until = now + backoff(initial, max, entry.pending.attempts);
        entry.place = Place::BackingOff { until };
        self.deadlines.insert((until, key.clone()));
    }

    /// Something changed that may have made these plugins yield.
    pub fn wake(&mut self, change: Plugins, now: Instant) {
        self.wake_if(None, change, now);
    }

    /// Something changed in one cluster that may have made these plugins yield.
    pub fn wake_cluster(&mut self, cluster: &ClusterName, change: Plugins, now: Instant) {
        self.wake_if(Some(cluster), change, now);
    }

    fn wake_if(&mut self, cluster: Option<&ClusterName>, change: Plugins, now: Instant) {
        let concerned = self.waiting.iter().filter(|(refused_by, _)| refused_by.meets(change)).flat_map(|(_, clusters)| clusters);
        let keys = concerned.filter(|(of, _)| cluster.is_none_or(|cluster| *of == cluster)).flat_map(|(_, keys)| keys);
        let woken: Vec<(ObjectKey, Instant)> = keys
            .filter_map(|key| match self.entries.get(key)?.place {
                Place::Unschedulable { until, .. } => Some((key.clone(), until)),
                _ => None,
            })
            .collect();
        for (key, until) in woken {
            self.leave_waiting(&key, until, now);
        }
    }

    /// From waiting to ready, or to the rest of its backoff.
    fn leave_waiting(&mut self, key: &ObjectKey, until: Instant, now: Instant) {
        let Some(entry) = self.entries.get(key) else { return };
        self.forget_deadline(key, entry.place);
        if until <= now {
            self.make_ready(key);
        } else if let Some(entry) = self.entries.get_mut(key) {
            entry.place = Place::BackingOff { until };
            self.deadlines.insert((until, key.clone()));
        }
    }

    fn make_ready(&mut self, key: &ObjectKey) {
        self.next_turn += 1;
        let turn = self.next_turn;
        let Some(entry) = self.entries.get_mut(key) else { return };
        entry.place = Place::Ready;
        entry.turn = turn;
        let ready = Ready { priority: entry.pending.info.priority, since: entry.pending.since, turn, key: key.clone() };
        let heap = self.ready.entry(key.cluster.clone()).or_default();
        if heap.is_empty() {
            self.turns.push_back(key.cluster.clone());
        }
        heap.push(ready);
    }

    fn wake_due(&mut self, now: Instant) {
        while self.deadlines.first().is_some_and(|(at, _)| *at <= now) {
            let (_, key) = self.deadlines.pop_first().expect("the first was just seen");
            if let Some(Place::Unschedulable { refused_by, .. }) = self.entries.get(&key).map(|entry| entry.place) {
                self.wait_no_more(&key, refused_by);
            }
            self.make_ready(&key);
        }
    }

    fn wait_no_more(&mut self, key: &ObjectKey, refused_by: Plugins) {
        let Some(clusters) = self.waiting.get_mut(&refused_by) else { return };
        if let Some(keys) = clusters.get_mut(&key.cluster) {
            keys.remove(key);
            if keys.is_empty() {
                clusters.remove(&key.cluster);
            }
        }
        if clusters.is_empty() {
            self.waiting.remove(&refused_by);
        }
    }

    fn forget_deadline(&mut self, key: &ObjectKey, place: Place) {
        let at = match place {
            Place::BackingOff { until } => until,
            Place::Unschedulable { since, refused_by, .. } => {
                self.wait_no_more(key, refused_by);
                since + self.patience
            }
            Place::Ready | Place::InFlight => return,
        };
        self.deadlines.remove(&(at, key.clone()));
    }
}

fn backoff(initial: Duration, max: Duration, attempts: u32) -> Duration {
    initial.saturating_mul(1u32.checked_shl(attempts.saturating_sub(1)).unwrap_or(u32::MAX)).min(max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Plugin;
    use crate::testing::{pod, pod_in};
    use serde_json::json;

    fn queue() -> (Queue, Instant) {
        (Queue::new(Duration::from_secs(1), Duration::from_secs(10), Duration::from_secs(300)), clock::Clock::instant(&clock::SystemClock))
    }

    fn names(queue: &mut Queue, now: Instant) -> String {
        std::iter::from_fn(|| queue.pop(now)).map(|pending| pending.info.key.name.to_string()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_important_come_first_and_clusters_take_turns() {
        let (mut queue, now) = queue();
        let tenant = ClusterName::parse("tenant").unwrap();
        for (n, (name, priority)) in [("a", 0), ("b", 5), ("c", 5)].into_iter().enumerate() {
            queue.upsert(pod(name, json!({"priority": priority})), false, now + Duration::from_millis(n as u64));
        }
        queue.upsert(pod_in(&tenant, "t", json!({"priority": -1})), false, now);
        assert_eq!(names(&mut queue, now), "b t c a");
    }

    #[test]
    fn the_unschedulable_wait_for_what_concerns_them_and_back_off() {
        let (mut queue, now) = queue();
        let info = pod("a", json!({}));
        queue.upsert(info.clone(), false, now);
        assert_eq!(names(&mut queue, now), "a");
        queue.unschedulable(&info.key, Plugins::of(&[Plugin::NodeResourcesFit]), now);
        queue.wake(Plugins::of(&[Plugin::NodeAffinity]), now);
        assert_eq!((names(&mut queue, now + Duration::from_secs(60)), queue.next_deadline()), (String::new(), Some(now + Duration::from_secs(300))));
        queue.wake(Plugins::of(&[Plugin::NodeResourcesFit]), now);
        assert_eq!((names(&mut queue, now), queue.next_deadline()), (String::new(), Some(now + Duration::from_secs(1))));
        assert_eq!(names(&mut queue, now + Duration::from_secs(1)), "a");
        queue.back_off(&info.key, now);
        assert_eq!(queue.next_deadline(), Some(now + Duration::from_secs(2)));
        queue.remove(&info.key);
        assert_eq!((queue.next_deadline(), names(&mut queue, now + Duration::from_secs(999))), (None, String::new()));
        assert!(queue.waiting.is_empty());
    }

    #[test]
    fn one_clusters_change_wakes_its_own_pods_alone() {
        let (mut queue, now) = queue();
        let tenant = ClusterName::parse("tenant").unwrap();
        let (ours, theirs) = (pod("a", json!({})), pod_in(&tenant, "t", json!({})));
        for info in [&ours, &theirs] {
            queue.upsert(info.clone(), false, now);
            queue.pop(now);
            queue.unschedulable(&info.key, Plugins::of(&[Plugin::InterPodAffinity]), now);
        }
        let later = now + Duration::from_secs(60);
        queue.wake_cluster(&tenant, Plugins::of(&[Plugin::InterPodAffinity]), later);
        assert_eq!(names(&mut queue, later), "t");
        queue.wake(Plugins::ALL, later);
        assert_eq!(names(&mut queue, later), "a");
    }

    #[test]
    fn patience_ends() {
        let (mut queue, now) = queue();
        let info = pod("a", json!({}));
        queue.upsert(info.clone(), false, now);
        queue.pop(now);
        queue.unschedulable(&info.key, Plugins::ALL, now);
        assert_eq!(names(&mut queue, now + Duration::from_secs(300)), "a");
        assert!(queue.waiting.is_empty());
    }
}
