//! What a ReplicaSet needs: pods to adopt, release, create or delete, and its status.
use super::counts::PodCounts;
use super::ranking::first_to_go;
use crate::{owners, pods};
use api_meta::LabelSelector;
use controller_kit::{Plan, selector, whole_seconds};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// All a decision may see.
pub struct World {
    pub set: Arc<ReplicaSet>,
    pub pods: Pods,
    /// Active pods on each node of all sets with this set's owner, where some of its pods have to go.
    pub on_node: HashMap<String, usize>,
    pub now: Timestamp,
}

/// The pods around a set.
pub enum Pods {
    /// The set's own, and the orphans of its namespace.
    Each(Vec<Arc<Pod>>),
    /// What its own come to, which is enough if [`counts_suffice`].
    Counted(PodCounts),
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

fn wanted(set: &ReplicaSet) -> usize {
    usize::try_from(set.spec.replicas.unwrap_or(1)).unwrap_or_default()
}

fn min_ready_seconds(set: &ReplicaSet) -> i32 {
    set.spec.min_ready_seconds.unwrap_or_default()
}

/// Whether nothing has to be known of any single pod: all that are owned belong to the set, no orphan does, none has to go,
/// and none is watched growing old.
pub fn counts_suffice(set: &ReplicaSet, counts: &PodCounts, orphans: &[Arc<Pod>]) -> bool {
    let Ok(matcher) = selector(&set.spec.selector) else { return false };
    min_ready_seconds(set) <= 0
        && counts.total().active <= wanted(set)
        && counts.where_labels(|labels| !matcher.matches(labels)).all == 0
        && !orphans.iter().any(|pod| matcher.matches(&pod.metadata.labels))
}

/// A set's own pods, with those it adopts.
struct Owned {
    counts: PodCounts,
    available: usize,
    /// In how long the next one becomes available.
    next: Option<Duration>,
    /// Each of them, where they are known.
    active: Vec<Arc<Pod>>,
}

impl Owned {
    fn of(pods: &[Arc<Pod>], set: &ReplicaSet, now: Timestamp) -> Self {
        let mut owned = Self { counts: pods.iter().map(|pod| &**pod).collect(), available: 0, next: None, active: Vec::with_capacity(pods.len()) };
        for pod in pods.iter().filter(|pod| pods::is_active(pod)) {
            owned.active.push(pod.clone());
            match pods::availability(pod, min_ready_seconds(set), now) {
                Ok(()) => owned.available += 1,
                Err(wait) => owned.next = owned.next.into_iter().chain(wait).min(),
            }
        }
        owned
    }

    /// Of pods of which none has to be old to be available.
    fn counted(counts: &PodCounts) -> Self {
        Self { available: counts.total().ready, counts: counts.clone(), next: None, active: Vec::new() }
    }
}

pub fn reconcile(world: &World) -> Plan<Action> {
    let World { set, now, .. } = world;
    let Ok(matcher) = selector(&set.spec.selector) else { return Plan::nothing() };
    let mut plan = Plan::nothing();
    let owned = match &world.pods {
        Pods::Counted(counts) => Owned::counted(counts),
        Pods::Each(pods) => {
            let claims = owners::claim(&set.metadata, &matcher, pods);
            plan.actions.extend(claims.release.iter().cloned().map(Action::Release));
            plan.actions.extend(claims.adopt.iter().filter(|pod| pods::is_active(pod)).cloned().map(Action::Adopt));
            Owned::of(&claims.owned, set, *now)
        }
    };
    let (active, wanted) = (owned.counts.total().active, wanted(set));
    if set.metadata.deletion_timestamp.is_none() {
        if active < wanted {
            plan.push(Action::CreatePods((wanted - active).min(BURST)));
        } else if active > wanted {
            let count = (active - wanted).min(BURST);
            plan.push(Action::DeletePods(first_to_go(owned.active.clone(), count, &world.on_node, *now)));
        }
    }
    let status = status(set, &owned, None, *now);
    if Some(&status) != set.status.as_ref() {
        plan.push(Action::SetStatus(status));
    }
    if let Some(next) = owned.next {
        plan.look_again(next);
    }
    plan
}

/// The status these pods make; `failure` is what hindered creating or deleting some.
pub fn failed_status(world: &World, failure: &str) -> Option<ReplicaSetStatus> {
    let World { set, now, .. } = world;
    let owned = match &world.pods {
        Pods::Counted(counts) => Owned::counted(counts),
        Pods::Each(pods) => Owned::of(&owners::claim(&set.metadata, &selector(&set.spec.selector).ok()?, pods).owned, set, *now),
    };
    let status = status(set, &owned, Some(failure), *now);
    (Some(&status) != set.status.as_ref()).then_some(status)
}

fn status(set: &ReplicaSet, owned: &Owned, failure: Option<&str>, now: Timestamp) -> ReplicaSetStatus {
    let spec = &set.spec;
    let old = set.status.clone().unwrap_or_default();
    let template_labels = spec.template.as_ref().and_then(|t| t.metadata.as_ref()).and_then(|m| m.labels.clone()).unwrap_or_default();
    let fully = LabelSelector::from_map(&template_labels);
    let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    let total = owned.counts.total();
    let replicas = number(total.active);
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
    let some = |count: usize| (count != 0).then(|| number(count));
    ReplicaSetStatus {
        replicas,
        fully_labeled_replicas: some(owned.counts.where_labels(|labels| fully.matches(labels)).active),
        ready_replicas: some(total.ready),
        available_replicas: some(owned.available),
        terminating_replicas: Some(number(total.terminating)),
        observed_generation: set.metadata.generation,
        conditions: (!conditions.is_empty()).then_some(conditions),
    }
}
