//! What a ReplicaSet needs: pods to adopt, release, create or delete, and its status.
use super::ranking::deletion_order;
use crate::{owners, pods};
use api_meta::LabelSelector;
use controller_kit::{Plan, selector, whole_seconds};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use std::collections::HashMap;
use std::sync::Arc;

/// All a decision may see.
pub struct World {
    pub set: Arc<ReplicaSet>,
    /// The set's own pods, and the orphans of its namespace.
    pub pods: Vec<Arc<Pod>>,
    /// Active pods on each node of all sets with this set's owner.
    pub on_node: HashMap<String, usize>,
    pub now: Timestamp,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Adopt(Arc<Pod>),
    Release(Arc<Pod>),
    CreatePods(usize),
    DeletePods(Vec<Arc<Pod>>),
    SetStatus(ReplicaSetStatus),
}

/// No more pods are created or deleted in one go.
const BURST: usize = 500;

pub fn reconcile(world: &World) -> Plan<Action> {
    let World { set, now, .. } = world;
    let spec = &set.spec;
    let Ok(matcher) = selector(&spec.selector) else { return Plan::nothing() };
    let claims = owners::claim(&set.metadata, &matcher, &world.pods);
    let mut plan = Plan::nothing();
    plan.actions.extend(claims.release.iter().cloned().map(Action::Release));
    plan.actions.extend(claims.adopt.iter().filter(|pod| pods::is_active(pod)).cloned().map(Action::Adopt));
    let active: Vec<Arc<Pod>> = claims.owned.iter().filter(|pod| pods::is_active(pod)).cloned().collect();
    if set.metadata.deletion_timestamp.is_none() {
        let wanted = usize::try_from(spec.replicas.unwrap_or(1)).unwrap_or_default();
        if active.len() < wanted {
            plan.push(Action::CreatePods((wanted - active.len()).min(BURST)));
        } else if active.len() > wanted {
            let count = (active.len() - wanted).min(BURST);
            let mut doomed = deletion_order(active.clone(), &world.on_node, *now);
            doomed.truncate(count);
            plan.push(Action::DeletePods(doomed));
        }
    }
    let status = status(set, &claims.owned, None, *now);
    if Some(&status) != set.status.as_ref() {
        plan.push(Action::SetStatus(status));
    }
    let waits = active.iter().filter_map(|pod| pods::availability(pod, spec.min_ready_seconds.unwrap_or_default(), *now).err().flatten());
    if let Some(next) = waits.min() {
        plan.look_again(next);
    }
    plan
}

/// The status these pods make; `failure` is what hindered creating or deleting some.
pub fn failed_status(world: &World, failure: &str) -> Option<ReplicaSetStatus> {
    let matcher = selector(&world.set.spec.selector).ok()?;
    let claims = owners::claim(&world.set.metadata, &matcher, &world.pods);
    let status = status(&world.set, &claims.owned, Some(failure), world.now);
    (Some(&status) != world.set.status.as_ref()).then_some(status)
}

fn status(set: &ReplicaSet, owned: &[Arc<Pod>], failure: Option<&str>, now: Timestamp) -> ReplicaSetStatus {
    let spec = &set.spec;
    let old = set.status.clone().unwrap_or_default();
    let template_labels = spec.template.as_ref().and_then(|t| t.metadata.as_ref()).and_then(|m| m.labels.clone()).unwrap_or_default();
    let fully = LabelSelector::from_map(&template_labels);
    let active: Vec<&Arc<Pod>> = owned.iter().filter(|pod| pods::is_active(pod)).collect();
    let count = |holds: &dyn Fn(&Pod) -> bool| i32::try_from(active.iter().filter(|pod| holds(pod)).count()).unwrap_or(i32::MAX);
    let replicas = count(&|_| true);
    let terminating = owned.iter().filter(|pod| pods::is_terminating(pod) && !pods::is_finished(pod)).count();
    let mut conditions = old.conditions.clone().unwrap_or_default();
    let failing = conditions.iter().any(|condition| condition.type_.as_deref() == Some("ReplicaFailure"));
    match failure {
        Some(message) if !failing => conditions.push(ReplicaSetCondition {
            type_: Some("ReplicaFailure".into()),
            status: Some("True".into()),
            reason: Some(if replicas < spec.replicas.unwrap_or(1) { "FailedCreate" } else { "FailedDelete" }.into()),
            message: Some(message.to_owned()),
            last_transition_time: Some(whole_seconds(now)),
        }),
        None if failing => conditions.retain(|condition| condition.type_.as_deref() != Some("ReplicaFailure")),
        _ => {}
    }
    let some = |n: i32| (n != 0).then_some(n);
    let ready = count(&pods::is_ready);
    let available = count(&|pod| pods::availability(pod, spec.min_ready_seconds.unwrap_or_default(), now).is_ok());
    ReplicaSetStatus {
        replicas,
        fully_labeled_replicas: some(count(&|pod| fully.matches(&pod.metadata.labels))),
        ready_replicas: some(ready),
        available_replicas: some(available),
        terminating_replicas: Some(i32::try_from(terminating).unwrap_or(i32::MAX)),
        observed_generation: set.metadata.generation,
        conditions: (!conditions.is_empty()).then_some(conditions),
    }
}
