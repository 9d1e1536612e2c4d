//! Counts: how many pods of a set are in which state, by their labels, which say whose they should be.
use crate::{owners, pods};
use controller_kit::Tally;
use k8s_openapi::api::core::v1::Pod;
use std::collections::BTreeMap;

pub type Labels = Option<BTreeMap<String, String>>;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub all: usize,
    pub active: usize,
    /// Active and ready.
    pub ready: usize,
    /// Being deleted, and not finished yet.
    pub terminating: usize,
}

impl Count {
    fn of(pod: &Pod) -> Self {
        let active = pods::is_active(pod);
        let terminating = pods::is_terminating(pod) && !pods::is_finished(pod);
        Self { all: 1, active: active.into(), ready: (active && pods::is_ready(pod)).into(), terminating: terminating.into() }
    }

    fn with(self, other: Self, sum: impl Fn(usize, usize) -> usize) -> Self {
        Self {
            all: sum(self.all, other.all),
            active: sum(self.active, other.active),
            ready: sum(self.ready, other.ready),
            terminating: sum(self.terminating, other.terminating),
        }
    }
}

/// Pods of one template have the same labels, so that there are few of these however many pods there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodCounts(BTreeMap<Labels, Count>);

/// By which set's these counts are kept: its uid.
pub fn by_set(pod: &Pod) -> Vec<String> {
    let owner = owners::controller_of(&pod.metadata).filter(|owner| matches!(&*owner.kind, "ReplicaSet" | "ReplicationController"));
    owner.map(|owner| owner.uid.clone()).into_iter().collect()
}

impl PodCounts {
    /// Of the pods whose labels `holds`.
    pub fn where_labels(&self, holds: impl Fn(&Labels) -> bool) -> Count {
        let counts = self.0.iter().filter(|(labels, _)| holds(labels)).map(|(_, count)| *count);
        counts.fold(Count::default(), |sum, count| sum.with(count, usize::saturating_add))
    }

    pub fn total(&self) -> Count {
        self.where_labels(|_| true)
    }
}

impl<'a> FromIterator<&'a Pod> for PodCounts {
    fn from_iter<I: IntoIterator<Item = &'a Pod>>(pods: I) -> Self {
        let mut counts = Self::default();
        pods.into_iter().for_each(|pod| counts.add(pod));
        counts
    }
}

impl Tally<Pod> for PodCounts {
    fn add(&mut self, pod: &Pod) {
        let count = Count::of(pod);
        match self.0.get_mut(&pod.metadata.labels) {
            Some(sum) => *sum = sum.with(count, usize::saturating_add),
            None => drop(self.0.insert(pod.metadata.labels.clone(), count)),
        }
    }

    fn remove(&mut self, pod: &Pod) {
        let Some(sum) = self.0.get_mut(&pod.metadata.labels) else { return };
        *sum = sum.with(Count::of(pod), usize::saturating_sub);
        if sum.all == 0 {
            self.0.remove(&pod.metadata.labels);
        }
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
