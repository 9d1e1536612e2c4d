//! Scores: which of the fit nodes is best. Each is prepared once per pod, and only if it has a say.
mod balanced_allocation;
mod image_locality;
mod inter_pod_affinity;
mod least_allocated;
mod node_affinity;
mod pod_topology_spread;
mod taint_toleration;

use crate::{NodeInfo, PodInfo, Snapshot};

pub const MAX: i64 = 100;

pub trait Score {
    fn weight(&self) -> i64;

    fn score(&self, node: &NodeInfo) -> i64;

    /// Brings the scores of all fit nodes between 0 and 100.
    fn normalize(&self, _scores: &mut [i64]) {}
}

/// The scores that have a say about this pod; `fit` are the places of the fit nodes.
pub fn prepare<'a>(pod: &'a PodInfo, snapshot: &'a Snapshot, fit: &[usize]) -> Vec<Box<dyn Score + 'a>> {
    let mut scores: Vec<Box<dyn Score + 'a>> = Vec::new();
    fn add<'a, S: Score + 'a>(scores: &mut Vec<Box<dyn Score + 'a>>, score: Option<S>) {
        scores.extend(score.map(|score| Box::new(score) as Box<dyn Score + 'a>));
    }
    add(&mut scores, taint_toleration::prepare(pod, snapshot, fit));
    add(&mut scores, node_affinity::prepare(pod));
    add(&mut scores, Some(least_allocated::prepare(pod)));
    add(&mut scores, pod_topology_spread::prepare(pod, snapshot, fit));
    add(&mut scores, inter_pod_affinity::prepare(pod, snapshot));
    add(&mut scores, balanced_allocation::prepare(pod));
    add(&mut scores, image_locality::prepare(pod, snapshot));
    scores
}

/// To per cent of the highest; reversed, the lowest is the best.
pub fn normalize_to_highest(scores: &mut [i64], reverse: bool) {
    let highest = scores.iter().copied().max().unwrap_or_default();
    for score in scores {
        let share = if highest == 0 { 0 } else { *score * MAX / highest };
        *score = if reverse { MAX - share } else { share };
    }
}
