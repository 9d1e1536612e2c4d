//! What a DaemonSet needs: one pod on every node it belongs on, and its status.
use super::placement::{self, belongs, daemon_template, node_of};
use crate::deployment::scaled;
use crate::history::{self, POD_REVISION, Step};
use crate::{owners, pods, templates};
use controller_kit::{Plan, selector, until};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, DaemonSetStatus};
use k8s_openapi::api::core::v1::{Node, Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// All a decision may see.
pub struct World {
    pub set: Arc<DaemonSet>,
    /// The set's own pods, and the orphans of its namespace.
    pub pods: Vec<Arc<Pod>>,
    /// The same of its revisions.
    pub revisions: Vec<Arc<ControllerRevision>>,
    pub nodes: Vec<Arc<Node>>,
    /// Until when a failed pod of a node is left alone.
    pub backoffs: HashMap<String, Timestamp>,
    pub now: Timestamp,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Adopt(Arc<Pod>),
    Release(Arc<Pod>),
    AdoptRevision(Arc<ControllerRevision>),
    Revise(Step),
    CreatePods(Vec<Pod>),
    DeletePods(Vec<Arc<Pod>>),
    /// Deletes a pod that ended, to be made anew.
    ReplaceEnded {
        pod: Arc<Pod>,
        node: String,
    },
    DeleteRevision(Arc<ControllerRevision>),
    SetStatus(DaemonSetStatus),
}

const BURST: usize = 250;

pub fn reconcile(world: &World) -> Plan<Action> {
    let World { set, .. } = world;
    let Ok(matcher) = selector(&set.spec.selector) else { return Plan::nothing() };
    if matcher.is_everything() {
        return Plan::nothing();
    }
    let mut plan = Plan::nothing();
    let claims = owners::claim(&set.metadata, &matcher, &world.pods);
    plan.actions.extend(claims.release.into_iter().map(Action::Release));
    plan.actions.extend(claims.adopt.into_iter().map(Action::Adopt));
    let held = owners::claim(&set.metadata, &matcher, &world.revisions);
    plan.actions.extend(held.adopt.into_iter().map(Action::AdoptRevision));
    let mut revisions = held.owned;
    history::sort(&mut revisions);
    let collisions = set.status.as_ref().and_then(|status| status.collision_count);
    let (update, step) = history::update_revision(&**set, &set.spec.template, POD_REVISION, collisions, &revisions);
    let alive = set.metadata.deletion_timestamp.is_none();
    if alive {
        plan.actions.extend(step.map(Action::Revise));
    }
    let hash = update.metadata.labels.as_ref().and_then(|labels| labels.get(POD_REVISION)).cloned().unwrap_or_default();
    let mut on_nodes: BTreeMap<String, Vec<Arc<Pod>>> = BTreeMap::new();
    for pod in claims.owned {
        if let Some(node) = node_of(&pod) {
            on_nodes.entry(node).or_default().push(pod);
        }
    }
    for pods in on_nodes.values_mut() {
        // The eldest stands for the node, but one that has its place is worth more than one that waits for it.
        let rank = |pod: &Arc<Pod>| (pods::node_name(pod).is_empty(), pod.metadata.creation_timestamp.clone(), pod.metadata.name.clone());
        pods.sort_by_cached_key(rank);
    }
    let mut sync = Sync { world, plan, template: daemon_template(&set.spec.template), hash, on_nodes, create_on: Vec::new(), doomed: Vec::new() };
    let status = sync.status();
    if alive {
        sync.manage();
        if sync.create_on.is_empty() && sync.doomed.is_empty() && sync.is_rolling() {
            sync.roll();
        }
        sync.write();
    }
    let Sync { mut plan, on_nodes, .. } = sync;
    if Some(&status) != set.status.as_ref() {
        plan.push(Action::SetStatus(status));
    }
    let used = |revision: &ControllerRevision| {
        let hash = revision.metadata.labels.as_ref().and_then(|labels| labels.get(POD_REVISION));
        *revision == *update || on_nodes.values().flatten().any(|pod| pod.metadata.labels.as_ref().and_then(|labels| labels.get(POD_REVISION)) == hash)
    };
    plan.actions.extend(history::excess(&revisions, used, set.spec.revision_history_limit).into_iter().map(Action::DeleteRevision));
    plan
}

struct Sync<'a> {
    world: &'a World,
    plan: Plan<Action>,
    template: PodTemplateSpec,
    hash: String,
    on_nodes: BTreeMap<String, Vec<Arc<Pod>>>,
    create_on: Vec<String>,
    doomed: Vec<Arc<Pod>>,
}

impl Sync<'_> {
    fn is_updated(&self, pod: &Pod) -> bool {
        pod.metadata.labels.as_ref().and_then(|labels| labels.get(POD_REVISION)) == Some(&self.hash)
    }

    fn is_available(&self, pod: &Pod) -> bool {
        pods::availability(pod, self.world.set.spec.min_ready_seconds.unwrap_or_default(), self.world.now).is_ok()
    }

    fn is_rolling(&self) -> bool {
        self.world.set.spec.update_strategy.as_ref().and_then(|strategy| strategy.type_.as_deref()) != Some("OnDelete")
    }

    /// How many pods more, and how many fewer than nodes there may be during an update.
    fn limits(&self, desired: usize) -> (usize, usize) {
        let rolling = self.world.set.spec.update_strategy.as_ref().and_then(|strategy| strategy.rolling_update.as_ref());
        let total = i32::try_from(desired).unwrap_or(i32::MAX);
        let of = |value: Option<&IntOrString>, default| usize::try_from(value.map_or(default, |value| scaled(value, total, true))).unwrap_or_default();
        let surge = of(rolling.and_then(|rolling| rolling.max_surge.as_ref()), 0);
        let unavailable = of(rolling.and_then(|rolling| rolling.max_unavailable.as_ref()), 1);
        if surge == 0 && unavailable == 0 { (0, 1) } else { (surge, unavailable) }
    }

    fn manage(&mut self) {
        let surges = self.limits(self.world.nodes.len()).0 > 0;
        for node in &self.world.nodes {
            let name = node.metadata.name.clone().unwrap_or_default();
            let here = self.on_nodes.get(&name).cloned().unwrap_or_default();
            match belongs(&self.template, node) {
                (true, _) if here.is_empty() => self.create_on.push(name),
                (_, true) => self.tend(&name, here, surges),
                _ => self.doomed.extend(here.into_iter().filter(|pod| !pods::is_terminating(pod))),
            }
        }
        // Pods on nodes that are gone are the pod GC's.
        let seconds = self.world.set.spec.min_ready_seconds.unwrap_or_default();
        let waits = self.on_nodes.values().flatten().filter_map(|pod| pods::availability(pod, seconds, self.world.now).err().flatten());
        if let Some(next) = waits.min() {
            self.plan.look_again(next);
        }
    }

    /// Pods that ended are replaced; of several the oldest stays (with surge, the oldest of each revision).
    fn tend(&mut self, node: &str, here: Vec<Arc<Pod>>, surges: bool) {
        let mut running = Vec::new();
        for pod in here.into_iter().filter(|pod| !pods::is_terminating(pod)) {
            if !pods::is_finished(&pod) {
                running.push(pod);
                continue;
            }
            match self.world.backoffs.get(node).and_then(|end| until(*end, Duration::ZERO, self.world.now)) {
                Some(left) => self.plan.look_again(left),
                None => self.plan.push(Action::ReplaceEnded { pod, node: node.to_owned() }),
            }
        }
        if !surges {
            self.doomed.extend(running.into_iter().skip(1));
            return;
        }
        let (updated, mut old): (Vec<_>, Vec<_>) = running.into_iter().partition(|pod| self.is_updated(pod));
        let mut spare = old.split_off(old.len().min(1));
        // The old one goes once the new one serves, or when it does not serve itself.
        let is_over = |old: &&Arc<Pod>| updated.first().is_some_and(|new| !pods::is_ready(old) || self.is_available(new));
        spare.extend(old.iter().find(is_over).cloned());
        spare.extend(updated.into_iter().skip(1));
        self.doomed.extend(spare);
    }

    fn roll(&mut self) {
        let eligible: Vec<String> =
            self.world.nodes.iter().filter(|node| belongs(&self.template, node).0).filter_map(|node| node.metadata.name.clone()).collect();
        let (max_surge, max_unavailable) = self.limits(eligible.len());
        let (mut unavailable, mut surging) = (0, 0);
        let (mut allowed, mut candidates) = (Vec::new(), Vec::new());
        for node in &eligible {
            let here = self.on_nodes.get(node).cloned().unwrap_or_default();
            let (mut updated, mut old): (Vec<_>, Vec<_>) = here.into_iter().filter(|pod| !pods::is_terminating(pod)).partition(|pod| self.is_updated(pod));
            if updated.len() > 1 || old.len() > 1 {
                // The superfluous go first.
                unavailable += 1;
                continue;
            }
            match (updated.pop(), old.pop()) {
                (Some(new), Some(_)) => surging += usize::from(!self.is_available(&new)),
                (Some(new), None) => unavailable += usize::from(!self.is_available(&new)),
                (None, Some(old)) if !self.is_available(&old) => allowed.push((node.clone(), old)),
                (None, Some(old)) => candidates.push((node.clone(), old)),
                (None, None) => unavailable += 1,
            }
        }
        if max_surge > 0 {
            // Where the old one does not serve, a new one can't make it worse.
            let room = max_surge.saturating_sub(surging);
            let chosen = allowed.into_iter().chain(candidates.into_iter().take(room));
            self.create_on.extend(chosen.map(|(node, _)| node));
            return;
        }
        let room = max_unavailable.saturating_sub(unavailable);
        self.doomed.extend(allowed.into_iter().map(|(_, pod)| pod));
        self.doomed.extend(candidates.into_iter().take(room).map(|(_, pod)| pod));
    }

    fn write(&mut self) {
        self.doomed.truncate(BURST);
        if !self.doomed.is_empty() {
            let doomed = std::mem::take(&mut self.doomed);
            self.plan.push(Action::DeletePods(doomed));
        }
        self.create_on.truncate(BURST);
        if !self.create_on.is_empty() {
            let created = std::mem::take(&mut self.create_on).iter().map(|node| self.pod_for(node)).collect();
            self.plan.push(Action::CreatePods(created));
        }
    }

    fn pod_for(&self, node: &str) -> Pod {
        let metadata = &self.world.set.metadata;
        let name = metadata.name.as_deref().unwrap_or_default();
        let mut pod = templates::pod_from_template(
            &self.template,
            metadata.namespace.as_deref().unwrap_or_default(),
            name,
            owners::controller_reference(&*self.world.set),
        );
        let labels = pod.metadata.labels.get_or_insert_default();
        labels.insert(POD_REVISION.into(), self.hash.clone());
        if let Some(generation) = metadata.annotations.as_ref().and_then(|all| all.get("deprecated.daemonset.template.generation")) {
            labels.insert("pod-template-generation".into(), generation.clone());
        }
        placement::pin(&mut pod, node);
        pod
    }

    fn status(&self) -> DaemonSetStatus {
        let set = &self.world.set;
        let old = set.status.clone().unwrap_or_default();
        let mut status = DaemonSetStatus {
            observed_generation: set.metadata.generation,
            collision_count: old.collision_count,
            conditions: old.conditions,
            ..Default::default()
        };
        let (mut updated, mut available) = (0, 0);
        for node in &self.world.nodes {
            let here = self.on_nodes.get(node.metadata.name.as_deref().unwrap_or_default());
            if !belongs(&self.template, node).0 {
                status.number_misscheduled += i32::from(here.is_some());
                continue;
            }
            status.desired_number_scheduled += 1;
            let Some(here) = here else { continue };
            status.current_number_scheduled += 1;
            // The pod that serves stands for the node.
            let Some(pod) = here.iter().find(|pod| pods::is_ready(pod)).or(here.first()) else { continue };
            if pods::is_ready(pod) {
                status.number_ready += 1;
                available += i32::from(self.is_available(pod));
            }
            updated += i32::from(here.iter().any(|pod| self.is_updated(pod)));
        }
        let some = |n: i32| (n != 0).then_some(n);
        status.updated_number_scheduled = some(updated);
        status.number_available = some(available);
        status.number_unavailable = some(status.desired_number_scheduled - available);
        status
    }
}
