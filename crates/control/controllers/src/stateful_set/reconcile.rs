//! What a StatefulSet needs next: one step at a time where order matters.
use super::claims;
use super::identity::{identified, new_pod, ordinal, range, spec};
use super::status::{is_available, is_running_and_ready, status};
use crate::controller_revisions::{self, Step};
use crate::{deployment, owners, pods};
use controller_kit::{Plan, selector};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet, StatefulSetSpec, StatefulSetStatus};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::sync::Arc;

/// All a decision may see.
pub struct World {
    pub set: Arc<StatefulSet>,
    /// The set's own pods, and the orphans of its namespace.
    pub pods: Vec<Arc<Pod>>,
    /// The set's own revisions, and the orphans of its namespace.
    pub revisions: Vec<Arc<ControllerRevision>>,
    /// Claims whose names are made of the set's claim templates.
    pub claims: Vec<Arc<PersistentVolumeClaim>>,
    pub now: Timestamp,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Adopt(Arc<Pod>),
    Release(Arc<Pod>),
    AdoptRevision(Arc<ControllerRevision>),
    Revise(Step),
    DeleteRevision(Arc<ControllerRevision>),
    CreateClaim {
        claim: Box<PersistentVolumeClaim>,
        pod: String,
    },
    /// Gives a claim the owners it carries here.
    OwnClaim(Box<PersistentVolumeClaim>),
    CreatePod(Box<Pod>),
    /// Gives a pod the labels it carries here.
    IdentifyPod(Box<Pod>),
    DeletePod(Arc<Pod>),
    SetStatus(Box<StatefulSetStatus>),
}

pub fn reconcile(world: &World) -> Plan<Action> {
    let set = &world.set;
    let spec = spec(set);
    let Ok(matcher) = selector(&spec.selector) else { return Plan::nothing() };
    if matcher.is_everything() {
        return Plan::nothing();
    }
    let mut plan = Plan::nothing();
    let named: Vec<Arc<Pod>> = world.pods.iter().filter(|pod| ordinal(set, pods::name(pod)).is_some()).cloned().collect();
    let claims = owners::claim(&set.metadata, &matcher, &named);
    plan.actions.extend(claims.release.into_iter().map(Action::Release));
    plan.actions.extend(claims.adopt.into_iter().map(Action::Adopt));
    let kept = owners::claim(&set.metadata, &matcher, &world.revisions);
    plan.actions.extend(kept.adopt.into_iter().map(Action::AdoptRevision));
    let mut history = kept.owned;
    controller_revisions::sort(&mut history);
    let collisions = set.status.as_ref().and_then(|status| status.collision_count);
    let update = controller_revisions::current(&**set, &spec.template, &history, collisions, true);
    plan.actions.extend(update.step.map(Action::Revise));
    let current_name = set.status.as_ref().and_then(|status| status.current_revision.as_deref());
    let current = history.iter().find(|revision| Some(controller_revisions::name(revision)) == current_name).unwrap_or(&update.revision).clone();
    let status = status(set, &claims.owned, controller_revisions::name(&current), controller_revisions::name(&update.revision), world.now);
    let mut owned = claims.owned;
    owned.sort_by_key(|pod| ordinal(set, pods::name(pod)));
    let minimum = spec.min_ready_seconds.unwrap_or_default();
    let waits = owned.iter().filter_map(|pod| pods::availability(pod, minimum, world.now).err().flatten());
    if let Some(next) = waits.min() {
        plan.look_again(next);
    }
    if set.status.as_ref() != Some(&status) {
        plan.push(Action::SetStatus(Box::new(status)));
    }
    let going = set.metadata.deletion_timestamp.is_some();
    let mut live = vec![controller_revisions::name(&current), controller_revisions::name(&update.revision)];
    live.extend(owned.iter().map(|pod| controller_revisions::of_pod(&pod.metadata)));
    let superfluous = controller_revisions::superfluous(&history, &live, spec.revision_history_limit);
    if !going {
        let ordered = spec.pod_management_policy.as_deref() != Some("Parallel");
        let mut order = Order { world, spec, ordered, plan, owned, current, update: update.revision };
        order.run();
        plan = order.plan;
    }
    plan.actions.extend(superfluous.into_iter().map(Action::DeleteRevision));
    plan
}

/// One walk over the ordinals.
struct Order<'a> {
    world: &'a World,
    spec: StatefulSetSpec,
    /// Whether every pod waits for those before it.
    ordered: bool,
    plan: Plan<Action>,
    /// By ordinal.
    owned: Vec<Arc<Pod>>,
    current: Arc<ControllerRevision>,
    update: Arc<ControllerRevision>,
}

/// Whether the walk may go on.
#[derive(PartialEq)]
enum Go {
    On,
    Wait,
}

impl Order<'_> {
    fn run(&mut self) {
        let range = range(&self.world.set);
        for ordinal in range.clone() {
            if self.replica(ordinal) == Go::Wait {
                return;
            }
        }
        let condemned: Vec<Arc<Pod>> = self.owned.iter().filter(|pod| !range.contains(&self.ordinal(pod))).cloned().collect();
        for pod in &condemned {
            // A claim that shall go with its pod must be the pod's before that goes.
            self.own_claims(self.ordinal(pod), Some(pod));
        }
        for pod in condemned.iter().rev() {
            if self.condemn(pod) == Go::Wait {
                return;
            }
        }
        self.update();
    }

    fn ordinal(&self, pod: &Pod) -> i32 {
        ordinal(&self.world.set, pods::name(pod)).unwrap_or_default()
    }

    fn pod(&self, wanted: i32) -> Option<Arc<Pod>> {
        self.owned.iter().find(|pod| self.ordinal(pod) == wanted).cloned()
    }

    fn is_available(&self, pod: &Pod) -> bool {
        !pods::is_terminating(pod) && is_available(pod, self.spec.min_ready_seconds.unwrap_or_default(), self.world.now)
    }

    /// Brings the pod of one ordinal into being and keeps it.
    fn replica(&mut self, ordinal: i32) -> Go {
        let wait = if self.ordered { Go::Wait } else { Go::On };
        let Some(pod) = self.pod(ordinal) else {
            if self.stale_claim(ordinal, None) {
                return Go::Wait;
            }
            self.create_claims(ordinal);
            let revision = if self.belongs_to_current(ordinal) { &self.current } else { &self.update };
            self.plan.push(Action::CreatePod(Box::new(new_pod(&self.world.set, revision, ordinal))));
            return wait;
        };
        if pods::is_finished(&pod) {
            if !pods::is_terminating(&pod) {
                self.plan.push(Action::DeletePod(pod));
            }
            // Its successor comes when it is gone.
            return wait;
        }
        if pods::phase(&pod) == "Pending" && !pods::is_terminating(&pod) {
            self.create_claims(ordinal);
        }
        if self.ordered && (pods::is_terminating(&pod) || !is_running_and_ready(&pod) || !self.is_available(&pod)) {
            return Go::Wait;
        }
        let labelled = identified(&self.world.set, &pod);
        if labelled.metadata.labels != pod.metadata.labels && !pods::is_terminating(&pod) {
            self.plan.push(Action::IdentifyPod(Box::new(labelled)));
        }
        self.own_claims(ordinal, Some(&pod));
        Go::On
    }

    /// Ends a pod that is beyond the last ordinal.
    fn condemn(&mut self, pod: &Arc<Pod>) -> Go {
        let wait = if self.ordered { Go::Wait } else { Go::On };
        if pods::is_terminating(pod) {
            return wait;
        }
        // One unhealthy pod must not keep itself alive; a second one waits for it.
        let first_unhealthy = self.owned.iter().find(|pod| !self.is_available(pod));
        if self.ordered && !self.is_available(pod) && first_unhealthy.is_some_and(|first| first.metadata.uid != pod.metadata.uid) {
            return Go::Wait;
        }
        self.plan.push(Action::DeletePod(pod.clone()));
        wait
    }

    /// Ends pods of old revisions, the last ordinal first, as many as may be unavailable at once.
    fn update(&mut self) {
        let strategy = self.spec.update_strategy.clone().unwrap_or_default();
        if strategy.type_.as_deref() == Some("OnDelete") {
            return;
        }
        let replicas: Vec<Option<Arc<Pod>>> = range(&self.world.set).map(|ordinal| self.pod(ordinal)).collect();
        let limit = strategy.rolling_update.as_ref().and_then(|update| update.max_unavailable.clone()).unwrap_or(IntOrString::Int(1));
        let limit = deployment::scaled(&limit, i32::try_from(replicas.len()).unwrap_or(i32::MAX), true).max(1);
        let limit = usize::try_from(limit).unwrap_or(1);
        let mut unavailable = replicas.iter().filter(|pod| pod.as_ref().is_none_or(|pod| !self.is_available(pod))).count();
        let first = self.partition();
        for pod in replicas.into_iter().rev().flatten() {
            if self.ordinal(&pod) < first {
                return;
            }
            let old = controller_revisions::of_pod(&pod.metadata) != controller_revisions::name(&self.update);
            if !old || pods::is_terminating(&pod) {
                continue;
            }
            if self.is_available(&pod) {
                if unavailable >= limit {
                    return;
                }
                unavailable += 1;
            }
            // One that is unavailable already costs nothing.
            self.plan.push(Action::DeletePod(pod));
        }
    }

    /// Pods below this ordinal keep the current revision.
    fn partition(&self) -> i32 {
        let update = self.spec.update_strategy.as_ref().and_then(|strategy| strategy.rolling_update.as_ref());
        update.and_then(|update| update.partition).unwrap_or_default()
    }

    fn belongs_to_current(&self, ordinal: i32) -> bool {
        let rolling = self.spec.update_strategy.as_ref().and_then(|strategy| strategy.type_.as_deref()) != Some("OnDelete");
        rolling && ordinal < self.partition()
    }

    fn claim(&self, name: Option<&str>) -> Option<&Arc<PersistentVolumeClaim>> {
        self.world.claims.iter().find(|claim| claim.metadata.name.as_deref() == name)
    }

    fn create_claims(&mut self, ordinal: i32) {
        let set = &self.world.set;
        let pod = format!("{}-{ordinal}", super::identity::set_name(set));
        let missing: Vec<PersistentVolumeClaim> = claims::of_pod(set, ordinal).into_iter().filter(|claim| self.claim(claim.metadata.name.as_deref()).is_none()).collect();
        for claim in missing {
            let claim = claims::with_owners(set, &claim, ordinal, None).unwrap_or(claim);
            self.plan.push(Action::CreateClaim { claim: Box::new(claim), pod: pod.clone() });
        }
    }

    fn own_claims(&mut self, ordinal: i32, pod: Option<&Pod>) {
        let set = &self.world.set;
        let there: Vec<Arc<PersistentVolumeClaim>> = claims::of_pod(set, ordinal).iter().filter_map(|claim| self.claim(claim.metadata.name.as_deref())).cloned().collect();
        let changed = there.iter().filter(|claim| claim.metadata.deletion_timestamp.is_none()).filter_map(|claim| claims::with_owners(set, claim, ordinal, pod));
        let changed: Vec<Action> = changed.map(|claim| Action::OwnClaim(Box::new(claim))).collect();
        self.plan.actions.extend(changed);
    }

    fn stale_claim(&self, ordinal: i32, pod: Option<&Pod>) -> bool {
        let set = &self.world.set;
        claims::of_pod(set, ordinal).iter().filter_map(|claim| self.claim(claim.metadata.name.as_deref())).any(|claim| claims::is_stale(claim, pod, ordinal, set))
    }
}
