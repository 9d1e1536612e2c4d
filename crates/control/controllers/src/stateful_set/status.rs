//! Status: what a StatefulSet says of its pods.
use super::identity::spec;
use crate::{controller_revisions, pods};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetStatus};
use k8s_openapi::api::core::v1::Pod;
use std::sync::Arc;

pub fn is_running_and_ready(pod: &Pod) -> bool {
    pods::phase(pod) == "Running" && pods::is_ready(pod)
}

pub fn is_available(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> bool {
    is_running_and_ready(pod) && pods::availability(pod, min_ready_seconds, now).is_ok()
}

/// The status these pods make, given the names of the revision all pods had and of the one they shall have.
pub fn status(set: &StatefulSet, owned: &[Arc<Pod>], current: &str, update: &str, now: Timestamp) -> StatefulSetStatus {
    let spec = spec(set);
    let old = set.status.clone().unwrap_or_default();
    let minimum = spec.min_ready_seconds.unwrap_or_default();
    let count = |holds: &dyn Fn(&Pod) -> bool| i32::try_from(owned.iter().filter(|pod| holds(pod)).count()).unwrap_or(i32::MAX);
    let of = |revision: &str| count(&|pod| !pods::is_terminating(pod) && controller_revisions::of_pod(&pod.metadata) == revision);
    let some = |n: i32| Some(n).filter(|n| *n != 0);
    let mut status = StatefulSetStatus {
        replicas: count(&|_| true),
        ready_replicas: some(count(&is_running_and_ready)),
        available_replicas: Some(count(&|pod| is_available(pod, minimum, now))),
        current_replicas: some(of(current)),
        updated_replicas: some(of(update)),
        current_revision: Some(current.to_owned()),
        update_revision: Some(update.to_owned()),
        collision_count: Some(old.collision_count.unwrap_or_default()),
        observed_generation: set.metadata.generation,
        conditions: old.conditions,
    };
    let rolling = spec.update_strategy.and_then(|strategy| strategy.type_).is_none_or(|kind| kind == "RollingUpdate");
    if rolling && status.updated_replicas == some(status.replicas) && status.ready_replicas == some(status.replicas) {
        // All pods are of the new revision: the rollout is over.
        status.current_revision = status.update_revision.clone();
        status.current_replicas = status.updated_replicas;
    }
    status
}
