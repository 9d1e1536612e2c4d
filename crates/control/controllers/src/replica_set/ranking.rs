//! Ranking: which pods a scale down takes first.
use crate::pods;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use std::cmp::{Ordering, Reverse};
use std::collections::HashMap;
use std::sync::Arc;

/// The pods in the order in which they should go, as upstream's ActivePodsWithRanks.
///
/// `on_node` counts the active pods of all sets with the same owner on each node.
pub fn deletion_order(mut pods: Vec<Arc<Pod>>, on_node: &HashMap<String, usize>, now: Timestamp) -> Vec<Arc<Pod>> {
    pods.sort_by(|a, b| compare(a, b, on_node, now));
    pods
}

/// The first so many in that order.
pub fn first_to_go(mut pods: Vec<Arc<Pod>>, count: usize, on_node: &HashMap<String, usize>, now: Timestamp) -> Vec<Arc<Pod>> {
    if (1..pods.len()).contains(&count) {
        pods.select_nth_unstable_by(count - 1, |a, b| compare(a, b, on_node, now));
    }
    pods.truncate(count);
    deletion_order(pods, on_node, now)
}

fn compare(a: &Pod, b: &Pod, on_node: &HashMap<String, usize>, now: Timestamp) -> Ordering {
    let assigned = |pod: &Pod| !pods::node_name(pod).is_empty();
    let phase = |pod: &Pod| match pods::phase(pod) {
        "Pending" => 0,
        "Unknown" => 1,
        _ => 2,
    };
    let crowd = |pod: &Pod| Reverse(on_node.get(pods::node_name(pod)).copied().unwrap_or_default());
    assigned(a)
        .cmp(&assigned(b))
        .then_with(|| phase(a).cmp(&phase(b)))
        .then_with(|| pods::is_ready(a).cmp(&pods::is_ready(b)))
        .then_with(|| deletion_cost(a).cmp(&deletion_cost(b)))
        .then_with(|| crowd(a).cmp(&crowd(b)))
        .then_with(|| if pods::is_ready(a) && pods::is_ready(b) { younger_first(pods::ready_since(a), pods::ready_since(b), now) } else { Ordering::Equal })
        .then_with(|| Reverse(restarts(a)).cmp(&Reverse(restarts(b))))
        .then_with(|| younger_first(created(a), created(b), now))
        // Within a bucket of ages the choice is arbitrary but the same each time.
        .then_with(|| a.metadata.uid.cmp(&b.metadata.uid))
}

fn created(pod: &Pod) -> Option<Timestamp> {
    pod.metadata.creation_timestamp.as_ref().map(|time| time.0)
}

fn deletion_cost(pod: &Pod) -> i32 {
    let annotation = pod.metadata.annotations.as_ref().and_then(|all| all.get("controller.kubernetes.io/pod-deletion-cost"));
    annotation.and_then(|cost| cost.parse().ok()).unwrap_or_default()
}

fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    statuses.map(|status| status.restart_count).max().unwrap_or_default()
}

/// Ages are compared by their binary logarithm: pods of about the same age are equals.
fn younger_first(a: Option<Timestamp>, b: Option<Timestamp>, now: Timestamp) -> Ordering {
    let bucket = |at: Option<Timestamp>| at.map(|at| now.duration_since(at).as_nanos().max(1).ilog2());
    match (bucket(a), bucket(b)) {
        (Some(a), Some(b)) => a.cmp(&b),
        // No time yet counts as the youngest.
        (a, b) => a.is_some().cmp(&b.is_some()),
    }
}
