//! What a StatefulSet needs: its pods in order, each with its own identity, and its status.
use super::identity;
use crate::deployment::scaled;
use crate::history::{self, HASH, Step};
use crate::{owners, pods};
use controller_kit::{Plan, selector};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet, StatefulSetStatus};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use std::collections::HashMap;
use std::sync::Arc;

/// All a decision may see.
pub struct World {
    pub set: Arc<StatefulSet>,
    /// The set's own pods, and the orphans of its namespace.
    pub pods: Vec<Arc<Pod>>,
    /// The same of its revisions.
    pub revisions: Vec<Arc<ControllerRevision>>,
    /// The namespace's claims by name.
    pub claims: HashMap<String, Arc<PersistentVolumeClaim>>,
    pub now: Timestamp,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Adopt(Arc<Pod>),
    Release(Arc<Pod>),
    AdoptRevision(Arc<ControllerRevision>),
    Revise(Step),
    /// Creates a pod after its missing claims.
    CreatePod {
        pod: Box<Pod>,
        claims: Vec<PersistentVolumeClaim>,
    },
    CreateClaims {
        pod: Arc<Pod>,
        claims: Vec<PersistentVolumeClaim>,
    },
    DeletePod(Arc<Pod>),
    /// Deletes a pod that has ended, to be made anew.
    ReplaceEnded(Arc<Pod>),
    /// Says who the claim goes with.
    OwnClaim {
        claim: Arc<PersistentVolumeClaim>,
        owners: Vec<OwnerReference>,
    },
    DeleteRevision(Arc<ControllerRevision>),
    SetStatus(StatefulSetStatus),
}

pub fn reconcile(world: &World) -> Plan<Action> {
    let World { set, .. } = world;
    let Ok(matcher) = selector(&set.spec.selector) else { return Plan::nothing() };
    let mut plan = Plan::nothing();
    let mut claims = owners::claim(&set.metadata, &matcher, &world.pods);
    // An orphan is only taken in under a name of the set.
    let named = |pod: &Arc<Pod>| identity::ordinal(set, pod).is_some();
    claims.adopt.retain(named);
    claims.owned.retain(named);
    plan.actions.extend(claims.release.into_iter().map(Action::Release));
    plan.actions.extend(claims.adopt.into_iter().map(Action::Adopt));
    let held = owners::claim(&set.metadata, &matcher, &world.revisions);
    plan.actions.extend(held.adopt.into_iter().map(Action::AdoptRevision));
    let mut revisions = held.owned;
    history::sort(&mut revisions);
    let collisions = set.status.as_ref().and_then(|status| status.collision_count);
    let (update, step) = history::update_revision(&**set, &set.spec.template, HASH, collisions, &revisions);
    let current_name = set.status.as_ref().and_then(|status| status.current_revision.clone()).unwrap_or_default();
    let current = revisions.iter().find(|revision| history::name(revision) == current_name).cloned().unwrap_or_else(|| update.clone());
    if set.metadata.deletion_timestamp.is_none() {
        plan.actions.extend(step.map(Action::Revise));
    }
    let mut sync = Sync { world, plan, update, current, replicas: Vec::new(), condemned: Vec::new() };
    sync.sort_pods(claims.owned);
    let status = sync.status();
    if set.metadata.deletion_timestamp.is_none() {
        sync.manage();
    }
    let Sync { mut plan, update, current, replicas, condemned, .. } = sync;
    if Some(&status) != set.status.as_ref() {
        plan.push(Action::SetStatus(status));
    }
    let pods: Vec<&Arc<Pod>> = replicas.iter().filter_map(|(_, pod)| pod.as_ref()).chain(condemned.iter().map(|(_, pod)| pod)).collect();
    let used = |revision: &ControllerRevision| {
        let name = history::name(revision);
        name == history::name(&update) || name == history::name(&current) || pods.iter().any(|pod| identity::revision(pod) == name)
    };
    plan.actions.extend(history::excess(&revisions, used, set.spec.revision_history_limit).into_iter().map(Action::DeleteRevision));
    plan
}

struct Sync<'a> {
    world: &'a World,
    plan: Plan<Action>,
    update: Arc<ControllerRevision>,
    current: Arc<ControllerRevision>,
    /// A place for every wanted ordinal, in order.
    replicas: Vec<(i32, Option<Arc<Pod>>)>,
    /// Pods beyond, the highest ordinal first.
    condemned: Vec<(i32, Arc<Pod>)>,
}

impl Sync<'_> {
    fn sort_pods(&mut self, owned: Vec<Arc<Pod>>) {
        let set = &self.world.set;
        let first = identity::first_ordinal(set);
        let last = first + set.spec.replicas.unwrap_or(1);
        self.replicas = (first..last).map(|ordinal| (ordinal, None)).collect();
        for pod in owned {
            let Some(ordinal) = identity::ordinal(set, &pod) else { continue };
            match usize::try_from(ordinal - first).ok().and_then(|at| self.replicas.get_mut(at)) {
                Some(place) => place.1 = Some(pod),
                None => self.condemned.push((ordinal, pod)),
            }
        }
        self.condemned.sort_by_key(|(ordinal, _)| std::cmp::Reverse(*ordinal));
    }

    /// One at a time and in order, unless the pods are managed in parallel.
    fn is_monotonic(&self) -> bool {
        self.world.set.spec.pod_management_policy.as_deref() != Some("Parallel")
    }

    fn is_running_and_ready(pod: &Pod) -> bool {
        pods::phase(pod) == "Running" && pods::is_ready(pod)
    }

    fn is_available(&self, pod: &Pod) -> bool {
        Self::is_running_and_ready(pod) && pods::availability(pod, self.world.set.spec.min_ready_seconds.unwrap_or_default(), self.world.now).is_ok()
    }

    fn is_healthy(pod: &Pod) -> bool {
        Self::is_running_and_ready(pod) && !pods::is_terminating(pod)
    }

    /// Pods below it keep the current revision.
    fn partition(&self) -> i32 {
        let rolling = self.world.set.spec.update_strategy.as_ref().and_then(|strategy| strategy.rolling_update.as_ref());
        rolling.and_then(|rolling| rolling.partition).unwrap_or_default()
    }

    fn is_rolling(&self) -> bool {
        self.world.set.spec.update_strategy.as_ref().and_then(|strategy| strategy.type_.as_deref()) != Some("OnDelete")
    }

    fn manage(&mut self) {
        self.note_availability();
        let monotonic = self.is_monotonic();
        for at in 0..self.replicas.len() {
            if self.is_held_by(at) && monotonic {
                return;
            }
        }
        let first_unhealthy = self.first_unhealthy();
        for (_, pod) in self.condemned.clone() {
            if pods::is_terminating(&pod) {
                if monotonic {
                    return;
                }
                continue;
            }
            let is_the_unhealthy = first_unhealthy.as_ref() == Some(&pod);
            if monotonic && !is_the_unhealthy && !self.is_available(&pod) {
                return;
            }
            self.remove(pod);
            if monotonic {
                return;
            }
        }
        if self.is_rolling() {
            self.roll();
        }
    }

    /// Looks after one place; true if those after it must wait.
    fn is_held_by(&mut self, at: usize) -> bool {
        let (ordinal, pod) = self.replicas[at].clone();
        let Some(pod) = pod else {
            // Claims that go with an earlier pod have to be gone first.
            if !self.claims_of(ordinal).iter().any(|claim| identity::is_of_earlier_pod(&self.world.set, claim, ordinal)) {
                self.create(ordinal);
            }
            return true;
        };
        self.own_claims(ordinal, &pod, false);
        if pods::is_finished(&pod) {
            if !pods::is_terminating(&pod) {
                self.plan.push(Action::ReplaceEnded(pod));
            }
            return true;
        }
        if pods::phase(&pod) == "Pending" && !pods::is_terminating(&pod) {
            let claims = self.missing_claims(ordinal);
            if !claims.is_empty() {
                self.plan.push(Action::CreateClaims { pod: pod.clone(), claims });
            }
        }
        pods::is_terminating(&pod) || !self.is_available(&pod)
    }

    fn create(&mut self, ordinal: i32) {
        let set = &self.world.set;
        let of_current = self.current != self.update && self.is_rolling() && ordinal < identity::first_ordinal(set) + self.partition();
        let revision = if of_current { &self.current } else { &self.update };
        let template = history::template_of(revision).unwrap_or_else(|| set.spec.template.clone());
        let pod = identity::pod(set, &template, ordinal, history::name(revision));
        self.plan.push(Action::CreatePod { pod: Box::new(pod), claims: self.missing_claims(ordinal) });
    }

    fn missing_claims(&self, ordinal: i32) -> Vec<PersistentVolumeClaim> {
        let mut claims = identity::claims(&self.world.set, ordinal);
        claims.retain(|claim| !self.world.claims.contains_key(claim.metadata.name.as_deref().unwrap_or_default()));
        claims
    }

    /// The claims of an ordinal that there are.
    fn claims_of(&self, ordinal: i32) -> Vec<Arc<PersistentVolumeClaim>> {
        let names = identity::claims(&self.world.set, ordinal).into_iter().filter_map(|claim| claim.metadata.name);
        names.filter_map(|name| self.world.claims.get(&name).cloned()).collect()
    }

    fn own_claims(&mut self, ordinal: i32, pod: &Pod, is_condemned: bool) {
        for claim in self.claims_of(ordinal) {
            if let Some(owners) = identity::owners_to_be(&self.world.set, &claim, pod, is_condemned) {
                self.plan.push(Action::OwnClaim { claim, owners });
            }
        }
    }

    fn first_unhealthy(&self) -> Option<Arc<Pod>> {
        let replicas = self.replicas.iter().filter_map(|(_, pod)| pod.as_ref());
        replicas.chain(self.condemned.iter().rev().map(|(_, pod)| pod)).find(|pod| !Self::is_healthy(pod)).cloned()
    }

    fn remove(&mut self, pod: Arc<Pod>) {
        if let Some(ordinal) = identity::ordinal(&self.world.set, &pod) {
            self.own_claims(ordinal, &pod, true);
        }
        self.plan.push(Action::DeletePod(pod));
    }

    /// From the highest ordinal down to the partition, pods of another revision are replaced.
    fn roll(&mut self) {
        let lowest = usize::try_from(self.partition()).unwrap_or_default();
        let update = history::name(&self.update).to_owned();
        let max_unavailable = self.world.set.spec.update_strategy.as_ref().and_then(|s| s.rolling_update.as_ref()).and_then(|r| r.max_unavailable.as_ref());
        let targets: Vec<Arc<Pod>> = self.replicas.iter().skip(lowest).rev().filter_map(|(_, pod)| pod.clone()).collect();
        let is_old = |pod: &Pod| identity::revision(pod) != update && !pods::is_terminating(pod);
        let Some(max_unavailable) = max_unavailable else {
            for pod in targets {
                if is_old(&pod) {
                    self.plan.push(Action::DeletePod(pod));
                    return;
                }
                if !Self::is_healthy(&pod) {
                    return;
                }
            }
            return;
        };
        let wanted = i32::try_from(self.replicas.len()).unwrap_or(i32::MAX);
        let allowed = usize::try_from(scaled(max_unavailable, wanted, false).max(1)).unwrap_or(1);
        let unavailable = self.replicas.iter().filter(|(_, pod)| pod.as_ref().is_none_or(|pod| !Self::is_healthy(pod) || !self.is_available(pod))).count();
        // Those that are unavailable already are replaced without making it worse.
        let mut budget = allowed.saturating_sub(unavailable);
        for pod in targets.into_iter().filter(|pod| is_old(pod)) {
            if self.is_available(&pod) {
                if budget == 0 {
                    continue;
                }
                budget -= 1;
            }
            self.plan.push(Action::DeletePod(pod));
        }
    }

    fn note_availability(&mut self) {
        let seconds = self.world.set.spec.min_ready_seconds.unwrap_or_default();
        let waits = self.replicas.iter().filter_map(|(_, pod)| pods::availability(pod.as_ref()?, seconds, self.world.now).err().flatten());
        if let Some(next) = waits.min() {
            self.plan.look_again(next);
        }
    }

    fn status(&self) -> StatefulSetStatus {
        let set = &self.world.set;
        let all: Vec<&Arc<Pod>> = self.replicas.iter().filter_map(|(_, pod)| pod.as_ref()).chain(self.condemned.iter().map(|(_, pod)| pod)).collect();
        let count = |holds: &dyn Fn(&Pod) -> bool| i32::try_from(all.iter().filter(|pod| holds(pod)).count()).unwrap_or(i32::MAX);
        let (current, update) = (history::name(&self.current), history::name(&self.update));
        let of = |name: &str| count(&|pod| !pods::is_terminating(pod) && identity::revision(pod) == name);
        let old = set.status.clone().unwrap_or_default();
        let mut status = StatefulSetStatus {
            observed_generation: set.metadata.generation,
            replicas: count(&|_| true),
            ready_replicas: Some(count(&Self::is_running_and_ready)),
            available_replicas: Some(count(&|pod| self.is_available(pod))),
            current_replicas: Some(of(current)),
            updated_replicas: Some(of(update)),
            current_revision: Some(current.to_owned()),
            update_revision: Some(update.to_owned()),
            // The count must be there, if only as 0, for the next collision to add to.
            collision_count: Some(old.collision_count.unwrap_or_default()),
            conditions: old.conditions,
        };
        if self.is_rolling() && status.updated_replicas == Some(status.replicas) && status.ready_replicas == Some(status.replicas) {
            status.current_replicas = status.updated_replicas;
            status.current_revision = status.update_revision.clone();
        }
        let some = |n: Option<i32>| n.filter(|n| *n != 0);
        status.ready_replicas = some(status.ready_replicas);
        status.current_replicas = some(status.current_replicas);
        status.updated_replicas = some(status.updated_replicas);
        status
    }
}
