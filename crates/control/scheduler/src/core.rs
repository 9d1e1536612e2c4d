//! Core: snapshot and queue under one lock, so that no change falls between a decision and its waiting.
use crate::devices;
use crate::queue::{Pending, Queue};
use crate::{Plugin, Plugins, PodInfo, SchedulerSettings, Snapshot};
use controller_kit::ObjectKey;
use controller_kit::own_nodes;
use k8s_openapi::api::core::v1::{Node, Pod};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

pub struct Core {
    pub snapshot: Snapshot,
    pub queue: Queue,
    /// Pods placed here whose binding the API has not shown yet, with the node.
    assumed: HashMap<ObjectKey, Arc<str>>,
    /// Where the next search starts.
    pub start: usize,
}

/// Changes of pods that are placed: their going frees resources, ports and places.
const POD_WENT: Plugins = Plugins::of(&[
    Plugin::NodeResourcesFit,
    Plugin::NodePorts,
    Plugin::VolumeRestrictions,
    Plugin::NodeVolumeLimits,
    Plugin::PodTopologySpread,
    Plugin::InterPodAffinity,
]);
const POD_CAME: Plugins = Plugins::of(&[Plugin::PodTopologySpread, Plugin::InterPodAffinity]);
pub const DEVICES_CHANGED: Plugins = Plugins::of(&[Plugin::DynamicResources]);
pub const VOLUMES_CHANGED: Plugins = Plugins::of(&[Plugin::NodeVolumeLimits, Plugin::VolumeBinding]);

impl Core {
    pub fn new(settings: &SchedulerSettings) -> Self {
        let queue = Queue::new(settings.initial_backoff, settings.max_backoff, settings.unschedulable_limit);
        Self { snapshot: Snapshot::default(), queue, assumed: HashMap::new(), start: 0 }
    }

    /// A pod came, changed or went. `ours` says whether this scheduler is to place it.
    pub fn pod_changed(&mut self, key: &ObjectKey, old: Option<&Arc<Pod>>, new: Option<&Arc<Pod>>, ours: bool, now: Instant) {
        let Some(pod) = new.filter(|pod| !is_finished(pod)) else {
            self.assumed.remove(key);
            self.queue.remove(key);
            self.snapshot.unnominate(key);
            if self.snapshot.remove_pod(key) {
                self.queue.wake(POD_WENT, now);
            }
            return;
        };
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).filter(|name| !name.is_empty());
        let node = node.map(|node| if own_nodes::runs_on_own(&key.cluster, pod) { own_nodes::qualified(&key.cluster, node) } else { node.to_owned() });
        match node.as_deref() {
            Some(node) => {
                self.assumed.remove(key);
                self.queue.remove(key);
                self.snapshot.unnominate(key);
                let was = old.filter(|_| self.snapshot.place_of(key) == Some(node));
                let same = was.is_some_and(|was| {
                    was.spec == pod.spec && was.metadata.labels == pod.metadata.labels && was.metadata.deletion_timestamp == pod.metadata.deletion_timestamp
                });
                if same {
                    self.snapshot.renew(key, pod);
                } else {
                    self.snapshot.place(Arc::new(PodInfo::new(key.clone(), pod.clone())), node);
                    self.queue.wake_cluster(&key.cluster, POD_CAME, now);
                }
            }
            // A pod being deleted needs no place; one assumed placed has its.
            None if !ours || pod.metadata.deletion_timestamp.is_some() => {
                self.queue.remove(key);
                self.snapshot.unnominate(key);
            }
            None if self.assumed.contains_key(key) => {}
            None => {
                let gated = pod.spec.as_ref().and_then(|spec| spec.scheduling_gates.as_ref()).is_some_and(|gates| !gates.is_empty());
                // Claims that are yet to be made are a gate too.
                if gated || devices::waits_for_claims(pod) {
                    self.queue.remove(key);
                    return;
                }
                let claims = |pod: &Pod| pod.status.as_ref().and_then(|status| status.resource_claim_statuses.clone());
                let helps = old.is_none_or(|old| old.spec != pod.spec || old.metadata.labels != pod.metadata.labels || claims(old) != claims(pod));
                self.queue.upsert(Arc::new(PodInfo::new(key.clone(), pod.clone())), helps, now);
            }
        }
    }

    pub fn node_changed(&mut self, old: Option<&Arc<Node>>, new: Option<&Arc<Node>>, now: Instant) {
        match new {
            Some(node) => {
                let change = node_change(old.map(|old| &**old), node);
                self.snapshot.set_node(node.clone());
                if change != Plugins::NONE {
                    self.queue.wake(change, now);
                }
            }
            None => {
                let name = old.and_then(|old| old.metadata.name.as_deref()).unwrap_or_default();
                self.snapshot.remove_node(name);
            }
        }
    }

    /// From now on the pod counts as being on that node.
    pub fn assume(&mut self, pending: &Pending, node: usize) -> Arc<str> {
        let name = self.snapshot.nodes()[node].name.clone();
        self.assumed.insert(pending.info.key.clone(), name.clone());
        self.snapshot.unnominate(&pending.info.key);
        self.snapshot.place(pending.info.clone(), &name);
        name
    }

    /// The binding failed: unless the API has shown otherwise by now, the pod is not there after all.
    pub fn forget(&mut self, pending: &Pending, now: Instant) {
        let key = &pending.info.key;
        if self.assumed.remove(key).is_some() {
            self.snapshot.remove_pod(key);
            self.queue.wake(POD_WENT, now);
            self.queue.back_off(key, now);
        }
    }
}

fn is_finished(pod: &Pod) -> bool {
    matches!(pod.status.as_ref().and_then(|status| status.phase.as_deref()), Some("Succeeded" | "Failed"))
}

/// Which plugins a node's change may have made yield. Heartbeats change none.
fn node_change(old: Option<&Node>, new: &Node) -> Plugins {
    let Some(old) = old else { return Plugins::ALL };
    let mut change = Plugins::NONE;
    let allocatable = |node: &Node| node.status.as_ref().and_then(|status| status.allocatable.clone());
    if allocatable(old) != allocatable(new) {
        change.insert(Plugin::NodeResourcesFit);
    }
    if old.metadata.labels != new.metadata.labels {
        change = change.and(Plugins::of(&[
            Plugin::NodeAffinity,
            Plugin::PodTopologySpread,
            Plugin::InterPodAffinity,
            Plugin::VolumeBinding,
            Plugin::DynamicResources,
        ]));
    }
    let spec = |node: &Node| node.spec.clone().unwrap_or_default();
    if spec(old).taints != spec(new).taints {
        change = change.and(Plugins::of(&[Plugin::TaintToleration, Plugin::PodTopologySpread]));
    }
    if spec(old).unschedulable != spec(new).unschedulable {
        change.insert(Plugin::NodeUnschedulable);
    }
    change
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{node, requests};
    use api_meta::ClusterName;
    use serde_json::{Value, json};

    fn pod(node: Option<&str>, with: Value) -> Arc<Pod> {
        let mut value = json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": requests("1", "1Gi")});
        value["spec"]["nodeName"] = json!(node);
        crate::testing::merge(&mut value, with);
        Arc::new(serde_json::from_value(value).unwrap())
    }

    fn start() -> (Core, ObjectKey, Instant) {
        let mut core = Core::new(&SchedulerSettings::default());
        let now = clock::Clock::instant(&clock::SystemClock);
        core.node_changed(None, Some(&node("n1", json!({}))), now);
        (core, ObjectKey::new(&ClusterName::root(), "n", "p"), now)
    }

    fn used(core: &Core) -> i64 {
        core.snapshot.node("n1").unwrap().requested.cpu
    }

    #[test]
    fn a_pod_waits_until_its_claims_are_made() {
        let (mut core, key, now) = start();
        let claims = json!({"spec": {"resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "t"}]}});
        core.pod_changed(&key, None, Some(&pod(None, claims.clone())), true, now);
        assert!(core.queue.pop(now).is_none());
        let mut made = claims;
        made["status"] = json!({"resourceClaimStatuses": [{"name": "gpu", "resourceClaimName": "p-gpu-x"}]});
        core.pod_changed(&key, None, Some(&pod(None, made)), true, now);
        assert!(core.queue.pop(now).is_some());
    }

    #[test]
    fn an_assumed_pod_counts_until_bound_or_forgotten() {
        let (mut core, key, now) = start();
        let waiting = pod(None, json!({}));
        core.pod_changed(&key, None, Some(&waiting), true, now);
        let pending = core.queue.pop(now).unwrap();
        core.assume(&pending, 0);
        core.pod_changed(&key, Some(&waiting), Some(&pod(None, json!({"metadata": {"labels": {"a": "b"}}}))), true, now);
        assert_eq!((used(&core), core.queue.pop(now).is_none()), (1000, true));
        core.forget(&pending, now);
        assert_eq!(used(&core), 0);
        let again = core.queue.pop(now + std::time::Duration::from_secs(1)).unwrap();
        core.assume(&again, 0);
        core.pod_changed(&key, Some(&waiting), Some(&pod(Some("n1"), json!({}))), true, now);
        core.forget(&again, now);
        assert_eq!((used(&core), core.queue.contains(&key)), (1000, false));
        core.pod_changed(&key, Some(&waiting), Some(&pod(Some("n1"), json!({"status": {"phase": "Succeeded"}}))), true, now);
        assert_eq!(used(&core), 0);
    }

    #[test]
    fn of_a_placed_pod_the_newest_form_is_kept_and_no_other() {
        let (mut core, key, now) = start();
        let bound = pod(Some("n1"), json!({}));
        core.pod_changed(&key, None, Some(&bound), true, now);
        let running = pod(Some("n1"), json!({"status": {"startTime": "2026-01-01T00:00:00Z"}}));
        core.pod_changed(&key, Some(&bound), Some(&running), true, now);
        assert_eq!((used(&core), Arc::strong_count(&bound)), (1000, 1));
        assert!(core.snapshot.node("n1").unwrap().pods.iter().all(|info| Arc::ptr_eq(&info.pod, &running)));
        core.pod_changed(&key, Some(&running), None, true, now);
        assert_eq!((used(&core), Arc::strong_count(&running)), (0, 1));
    }

    #[test]
    fn gated_and_dying_pods_are_not_queued() {
        let (mut core, key, now) = start();
        let gated = pod(None, json!({"spec": {"schedulingGates": [{"name": "g"}]}}));
        core.pod_changed(&key, None, Some(&gated), true, now);
        assert!(core.queue.pop(now).is_none());
        let open = pod(None, json!({}));
        core.pod_changed(&key, Some(&gated), Some(&open), true, now);
        core.pod_changed(&key, Some(&open), Some(&pod(None, json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}))), true, now);
        assert!(core.queue.pop(now).is_none());
        core.pod_changed(&key, None, Some(&open), false, now);
        assert!(core.queue.pop(now).is_none());
    }

    #[test]
    fn heartbeats_wake_nobody() {
        let quiet = node_change(Some(&node("n1", json!({}))), &node("n1", json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}})));
        assert_eq!(quiet, Plugins::NONE);
        assert!(
            node_change(Some(&node("n1", json!({}))), &node("n1", json!({"status": {"allocatable": {"cpu": "8"}}})))
                .meets(Plugins::of(&[Plugin::NodeResourcesFit]))
        );
    }
}
