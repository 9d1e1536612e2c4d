//! Status: a deployment's counts and its conditions Progressing, Available and ReplicaFailure.
use super::rollout::{Rollout, Set};
use controller_kit::{until, whole_seconds};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DeploymentCondition, DeploymentStatus};
use std::time::Duration;

pub const PROGRESSING: &str = "Progressing";
const AVAILABLE: &str = "Available";
const REPLICA_FAILURE: &str = "ReplicaFailure";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const NEW_SET_AVAILABLE: &str = "NewReplicaSetAvailable";

pub fn condition(kind: &str, status: &str, reason: &str, message: String, now: Timestamp) -> DeploymentCondition {
    let now = whole_seconds(now);
    DeploymentCondition {
        type_: Some(kind.to_owned()),
        status: Some(status.to_owned()),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_update_time: Some(now.clone()),
        last_transition_time: Some(now),
    }
}

/// Sets a condition unless one of the same status and reason is there; an unchanged status keeps its transition time.
pub fn set(conditions: &mut Vec<DeploymentCondition>, mut condition: DeploymentCondition) {
    if let Some(at) = conditions.iter().position(|other| other.type_ == condition.type_) {
        let current = &conditions[at];
        if current.status == condition.status && current.reason == condition.reason {
            return;
        }
        if current.status == condition.status {
            condition.last_transition_time = current.last_transition_time.clone();
        }
        conditions.remove(at);
    }
    conditions.push(condition);
}

fn find<'a>(conditions: &'a [DeploymentCondition], kind: &str) -> Option<&'a DeploymentCondition> {
    conditions.iter().find(|condition| condition.type_.as_deref() == Some(kind))
}

impl Rollout {
    /// Changes a condition of the status that is decided from, so that the decisions after it see it.
    pub fn set_condition(&mut self, new: DeploymentCondition) {
        set(self.deployment.status.get_or_insert_default().conditions.get_or_insert_default(), new);
    }

    /// Pausing and resuming show as Progressing=Unknown, so that the deadline starts anew.
    pub fn note_pause(&mut self, now: Timestamp) {
        if self.limits.progress_deadline_seconds.is_none() {
            return;
        }
        let reason = self.condition(PROGRESSING).and_then(|condition| condition.reason.clone());
        if reason.as_deref() == Some(TIMED_OUT) {
            return;
        }
        let was_paused = reason.as_deref() == Some("DeploymentPaused");
        let (reason, message) = match (self.is_paused(), was_paused) {
            (true, false) => ("DeploymentPaused", "Deployment is paused"),
            (false, true) => ("DeploymentResumed", "Deployment is resumed"),
            _ => return,
        };
        self.set_condition(condition(PROGRESSING, "Unknown", reason, message.into(), now));
    }

    pub fn is_paused(&self) -> bool {
        self.deployment.spec.paused.unwrap_or_default()
    }

    /// The new set is known by its condition before any progress is.
    pub fn note_new(&mut self, created: bool, now: Timestamp) {
        if self.limits.progress_deadline_seconds.is_none() {
            return;
        }
        let Some(name) = self.new.as_ref().map(|set| set.name().to_owned()) else { return };
        if created {
            self.set_condition(condition(PROGRESSING, "True", "NewReplicaSetCreated", format!("Created new replica set {name:?}"), now));
        } else if self.condition(PROGRESSING).is_none() {
            self.set_condition(condition(PROGRESSING, "True", "FoundNewReplicaSet", format!("Found new replica set {name:?}"), now));
        }
    }

    /// The counts alone, with Available.
    pub fn counts(&self, now: Timestamp) -> DeploymentStatus {
        let old = self.deployment.status.clone().unwrap_or_default();
        let available: i32 = self.all().map(Set::available).sum();
        let sum = |of: &dyn Fn(&Set) -> i32| self.all().map(of).sum::<i32>();
        let some = |n: i32| (n != 0).then_some(n);
        let mut conditions = old.conditions.unwrap_or_default();
        set(
            &mut conditions,
            if available >= self.limits.replicas - self.limits.max_unavailable {
                condition(AVAILABLE, "True", "MinimumReplicasAvailable", "Deployment has minimum availability.".into(), now)
            } else {
                condition(AVAILABLE, "False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.".into(), now)
            },
        );
        DeploymentStatus {
            observed_generation: self.deployment.metadata.generation,
            replicas: some(sum(&Set::actual)),
            updated_replicas: some(self.new.as_ref().map(Set::actual).unwrap_or_default()),
            ready_replicas: some(sum(&|set| set.now.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or_default())),
            available_replicas: some(available),
            unavailable_replicas: some((self.total() - available).max(0)),
            terminating_replicas: Some(sum(&|set| set.now.status.as_ref().and_then(|status| status.terminating_replicas).unwrap_or_default())),
            collision_count: old.collision_count,
            conditions: Some(conditions),
        }
    }

    /// The whole status after a rollout step, and when to look whether the deadline has passed.
    pub fn progress(&self, now: Timestamp) -> (DeploymentStatus, Option<Duration>) {
        let mut status = self.counts(now);
        let mut conditions = status.conditions.take().unwrap_or_default();
        let current = self.condition(PROGRESSING).cloned();
        let deadline = self.limits.progress_deadline_seconds;
        if deadline.is_none() {
            conditions.retain(|condition| condition.type_.as_deref() != Some(PROGRESSING));
        }
        let subject = match &self.new {
            Some(new) => format!("ReplicaSet {:?}", new.name()),
            None => format!("Deployment {:?}", self.deployment.metadata.name.as_deref().unwrap_or_default()),
        };
        let complete = condition(PROGRESSING, "True", NEW_SET_AVAILABLE, format!("{subject} has successfully progressed."), now);
        let ended = current.as_ref().filter(|current| current.reason == complete.reason);
        // What another set came to says nothing of this one, which nobody came to tell of when it was made.
        let of_another = ended.is_some_and(|ended| self.new.is_some() && ended.message != complete.message);
        let was_complete = status.replicas == status.updated_replicas && ended.is_some() && !of_another;
        if let Some(deadline) = deadline
            && !was_complete
        {
            if self.is_complete(&status) {
                if of_another {
                    conditions.retain(|condition| condition.type_.as_deref() != Some(PROGRESSING));
                }
                set(&mut conditions, complete);
            } else if self.is_progressing(&status) {
                let mut next = condition(PROGRESSING, "True", "ReplicaSetUpdated", format!("{subject} is progressing."), now);
                if let Some(current) = current.filter(|current| current.status.as_deref() == Some("True")) {
                    next.last_transition_time = current.last_transition_time;
                }
                // Replaced even if alike: the time of the last progress is what the deadline counts from.
                conditions.retain(|condition| condition.type_.as_deref() != Some(PROGRESSING));
                conditions.push(next);
            } else if timed_out(&conditions, deadline, now) {
                set(&mut conditions, condition(PROGRESSING, "False", TIMED_OUT, format!("{subject} has timed out progressing."), now));
            }
        }
        conditions.retain(|condition| condition.type_.as_deref() != Some(REPLICA_FAILURE));
        if let Some(failure) = self.replica_failure() {
            conditions.push(failure);
        }
        let look_again = deadline.filter(|_| !self.is_complete(&status)).and_then(|deadline| {
            let progressing = find(&conditions, PROGRESSING).filter(|c| !matches!(c.reason.as_deref(), Some(TIMED_OUT | NEW_SET_AVAILABLE)))?;
            let deadline = Duration::from_secs(deadline.unsigned_abs().into());
            // A second more: times are kept in whole seconds.
            Some(until(progressing.last_update_time.as_ref()?.0, deadline, now).unwrap_or_default() + Duration::from_secs(1))
        });
        status.conditions = Some(conditions);
        (status, look_again)
    }

    pub fn is_complete(&self, status: &DeploymentStatus) -> bool {
        let all = |n: Option<i32>| n.unwrap_or_default() == self.limits.replicas;
        all(status.updated_replicas)
            && all(status.replicas)
            && all(status.available_replicas)
            && status.observed_generation >= self.deployment.metadata.generation
    }

    fn is_progressing(&self, status: &DeploymentStatus) -> bool {
        let old = self.deployment.status.clone().unwrap_or_default();
        let n = Option::unwrap_or_default;
        n(status.updated_replicas) > n(old.updated_replicas)
            || n(status.replicas) - n(status.updated_replicas) < n(old.replicas) - n(old.updated_replicas)
            || n(status.ready_replicas) > n(old.ready_replicas)
            || n(status.available_replicas) > n(old.available_replicas)
    }

    /// The new set's failure before any other's.
    fn replica_failure(&self) -> Option<DeploymentCondition> {
        let failures = self.new.iter().chain(&self.old).flat_map(|set| set.now.status.iter()).flat_map(|status| status.conditions.iter().flatten());
        let failure = failures.into_iter().find(|condition| condition.type_.as_deref() == Some(REPLICA_FAILURE))?;
        Some(DeploymentCondition {
            type_: Some(REPLICA_FAILURE.into()),
            status: failure.status.clone(),
            reason: failure.reason.clone(),
            message: failure.message.clone(),
            last_update_time: failure.last_transition_time.clone(),
            last_transition_time: failure.last_transition_time.clone(),
        })
    }
}

fn timed_out(conditions: &[DeploymentCondition], deadline: i32, now: Timestamp) -> bool {
    let Some(progressing) = find(conditions, PROGRESSING) else { return false };
    match progressing.reason.as_deref() {
        Some(NEW_SET_AVAILABLE) => false,
        Some(TIMED_OUT) => true,
        _ => progressing.last_update_time.as_ref().is_some_and(|from| until(from.0, Duration::from_secs(deadline.unsigned_abs().into()), now).is_none()),
    }
}
