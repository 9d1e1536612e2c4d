//! What a Deployment needs: ReplicaSets to claim, create, scale or clean up, and its status.
use super::revision::{self, REVISION};
use super::rollout::{Rollout, Set};
use crate::{owners, pods};
use controller_kit::{Plan, selector};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use std::sync::Arc;

/// All a decision may see.
pub struct World {
    pub deployment: Arc<Deployment>,
    /// The deployment's own sets, and the orphans of its namespace.
    pub sets: Vec<Arc<ReplicaSet>>,
    /// The pods of its own sets, if it recreates: otherwise their sets have counted them.
    pub pods: Vec<Arc<Pod>>,
    pub now: Timestamp,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    WarnSelectingAll,
    Adopt(Arc<ReplicaSet>),
    Release(Arc<ReplicaSet>),
    CreateSet(Box<ReplicaSet>),
    /// Replaces a set; `from` is how many it had.
    UpdateSet {
        set: Box<ReplicaSet>,
        from: i32,
    },
    DeleteSet(Arc<ReplicaSet>),
    /// Writes the revision annotation.
    SetRevision(String),
    SetStatus(DeploymentStatus),
}

pub fn reconcile(world: &World) -> Plan<Action> {
    let World { deployment, now, .. } = world;
    let Ok(matcher) = selector(&deployment.spec.selector) else { return Plan::nothing() };
    let mut plan = Plan::nothing();
    if matcher.is_everything() {
        plan.push(Action::WarnSelectingAll);
        let mut status = deployment.status.clone().unwrap_or_default();
        if status.observed_generation < deployment.metadata.generation {
            status.observed_generation = deployment.metadata.generation;
            plan.push(Action::SetStatus(status));
        }
        return plan;
    }
    let claims = owners::claim(&deployment.metadata, &matcher, &world.sets);
    plan.actions.extend(claims.release.iter().cloned().map(Action::Release));
    plan.actions.extend(claims.adopt.iter().cloned().map(Action::Adopt));
    if !claims.adopt.is_empty() || !claims.release.is_empty() {
        // The adopted come back with other resourceVersions; they are worked on in the next look.
        return plan;
    }
    let mut rollout = Rollout::new((**deployment).clone(), &claims.owned);
    if deployment.metadata.deletion_timestamp.is_some() {
        set_status(&mut plan, deployment, rollout.counts(*now));
        return plan;
    }
    rollout.note_pause(*now);
    let status = if rollout.is_paused() || rollout.is_scaling() {
        let (revision, _) = rollout.update_new(false);
        note_revision(&mut plan, deployment, revision);
        rollout.note_new(false, *now);
        rollout.scale();
        if rollout.is_paused() {
            clean_up(&rollout, &mut plan);
        }
        rollout.counts(*now)
    } else {
        if rollout.limits.rolling {
            roll(&mut rollout, &mut plan, world)
        } else {
            recreate(&mut rollout, &mut plan, world)
        }
        let (status, look_again) = rollout.progress(*now);
        if let Some(delay) = look_again {
            plan.look_again(delay);
        }
        status
    };
    write_sets(&rollout, &mut plan);
    set_status(&mut plan, deployment, status);
    plan
}

fn roll(rollout: &mut Rollout, plan: &mut Plan<Action>, world: &World) {
    let (revision, created) = rollout.update_new(true);
    note_revision(plan, &world.deployment, revision);
    rollout.note_new(created, world.now);
    if created || rollout.scale_new() || rollout.roll_old() {
        return;
    }
    clean_up_if_complete(rollout, plan);
}

fn recreate(rollout: &mut Rollout, plan: &mut Plan<Action>, world: &World) {
    let (revision, _) = rollout.update_new(false);
    note_revision(plan, &world.deployment, revision);
    rollout.note_new(false, world.now);
    if rollout.stop_old() || old_pods_run(rollout, world) {
        return;
    }
    if rollout.new.is_none() {
        let (revision, created) = rollout.update_new(true);
        note_revision(plan, &world.deployment, revision);
        rollout.note_new(created, world.now);
        return;
    }
    if !rollout.scale_new() {
        clean_up_if_complete(rollout, plan);
    }
}

fn old_pods_run(rollout: &Rollout, world: &World) -> bool {
    let new_uid = rollout.new.as_ref().and_then(|set| set.now.metadata.uid.as_deref()).unwrap_or_default();
    rollout.old.iter().any(|set| set.actual() > 0) || world.pods.iter().any(|pod| !pods::is_finished(pod) && !owners::is_controlled_by(&pod.metadata, new_uid))
}

fn note_revision(plan: &mut Plan<Action>, deployment: &Deployment, revision: Option<String>) {
    let has = deployment.metadata.annotations.as_ref().and_then(|all| all.get(REVISION));
    if let Some(revision) = revision.filter(|revision| has != Some(revision)) {
        plan.push(Action::SetRevision(revision));
    }
}

fn clean_up_if_complete(rollout: &Rollout, plan: &mut Plan<Action>) {
    if rollout.deployment.status.as_ref().is_some_and(|status| rollout.is_complete(status)) {
        clean_up(rollout, plan);
    }
}

/// Old empty sets beyond the history limit go, the oldest revisions first.
fn clean_up(rollout: &Rollout, plan: &mut Plan<Action>) {
    let Some(limit) = rollout.deployment.spec.revision_history_limit.filter(|limit| *limit != i32::MAX) else { return };
    let alive: Vec<&Set> = revision::by_revision(&rollout.old).into_iter().filter(|set| set.now.metadata.deletion_timestamp.is_none()).collect();
    let excess = alive.len().saturating_sub(usize::try_from(limit).unwrap_or_default());
    for set in alive.into_iter().take(excess) {
        let observed = set.now.status.as_ref().and_then(|status| status.observed_generation);
        if set.actual() == 0 && !set.is_active() && observed >= set.now.metadata.generation {
            plan.actions.extend(set.was.clone().map(Action::DeleteSet));
        }
    }
}

/// Sets to create or that are not as they were. New sets go up before old ones go down.
fn write_sets(rollout: &Rollout, plan: &mut Plan<Action>) {
    for set in rollout.new.iter().chain(&rollout.old) {
        match &set.was {
            None => plan.push(Action::CreateSet(Box::new(set.now.clone()))),
            Some(was) if **was != set.now => {
                let from = was.spec.replicas.unwrap_or(1);
                plan.push(Action::UpdateSet { set: Box::new(set.now.clone()), from });
            }
            Some(_) => {}
        }
    }
}

fn set_status(plan: &mut Plan<Action>, deployment: &Deployment, status: DeploymentStatus) {
    if Some(&status) != deployment.status.as_ref() {
        plan.push(Action::SetStatus(status));
    }
}
