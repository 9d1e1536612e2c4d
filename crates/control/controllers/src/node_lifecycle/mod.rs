//! Node lifecycle: notices silent nodes, and keeps the taints that tell of a node's conditions.
use controller_kit::{Controller, Error, Kit, ObjectKey, Objects, Plan, Preconditions, Recorder, Runner, async_trait, own_nodes, until, whole_seconds};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Pod, Taint};
use parking_lot::Mutex;
use serde_json::json;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

const LEASE_NAMESPACE: &str = "kube-node-lease";
const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
/// Conditions that a node reports, and what each means for new pods when it is true.
const PRESSURES: [(&str, &str); 4] = [
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "node.kubernetes.io/network-unavailable"),
];
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

pub struct NodeLifecycle {
    kit: Kit,
    nodes: Objects<Node>,
    leases: Objects<Lease>,
    pods: Objects<Pod>,
    events: Recorder,
    grace: Duration,
    /// What was last heard of each node, and when. By our own clock: a node's may be wrong.
    heard: Mutex<HashMap<ObjectKey, (String, Timestamp)>>,
}

pub struct World {
    pub node: Arc<Node>,
    /// When it last gave a sign of life; `None` when it is seen for the first time.
    pub heard: Timestamp,
    pub is_new: bool,
    pub grace: Duration,
    pub now: Timestamp,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Register,
    SetConditions(Vec<NodeCondition>),
    SetTaints(Vec<Taint>),
    /// It is no longer ready: neither are its pods.
    MarkPodsNotReady,
}

pub fn runner(kit: &Kit, grace: Duration) -> Runner<NodeLifecycle> {
    let (nodes, leases, pods) = (kit.objects::<Node>(), kit.objects::<Lease>(), kit.objects::<Pod>());
    let controller = NodeLifecycle {
        kit: kit.clone(),
        nodes: nodes.clone(),
        leases: leases.clone(),
        pods: pods.clone(),
        events: kit.recorder("node-controller"),
        grace,
        heard: Mutex::default(),
    };
    Runner::new(controller).needs(&pods).watch_own(&nodes).watch(&leases, |change| {
        let of_node = *change.key.namespace == *LEASE_NAMESPACE;
        if of_node { vec![ObjectKey::new(&change.key.cluster, "", &change.key.name)] } else { Vec::new() }
    })
}

fn condition<'a>(node: &'a Node, kind: &str) -> Option<&'a NodeCondition> {
    node.status.as_ref()?.conditions.iter().flatten().find(|condition| condition.type_ == kind)
}

fn conditions_after_silence(node: &Node, now: Timestamp) -> Vec<NodeCondition> {
    let mut conditions = node.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    for kind in ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"] {
        let unknown = |reason: &str, message: &str, heartbeat| NodeCondition {
            type_: kind.into(),
            status: "Unknown".into(),
            reason: Some(reason.into()),
            message: Some(message.into()),
            last_heartbeat_time: heartbeat,
            last_transition_time: Some(whole_seconds(now)),
        };
        match conditions.iter_mut().find(|condition| condition.type_ == kind) {
            None => conditions.push(unknown("NodeStatusNeverUpdated", "Kubelet never posted node status.", node.metadata.creation_timestamp.clone())),
            Some(condition) if condition.status != "Unknown" => {
                *condition = unknown("NodeStatusUnknown", "Kubelet stopped posting node status.", condition.last_heartbeat_time.clone());
            }
            Some(_) => {}
        }
    }
    conditions
}

/// The taints these conditions call for, among all the node has; those that stay keep their time.
fn taints(node: &Node, ready: Option<&str>, now: Timestamp) -> Vec<Taint> {
    let current = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
    let is_true = |kind: &str| condition(node, kind).is_some_and(|condition| condition.status == "True");
    let mut wanted: Vec<(&str, &str)> = Vec::new();
    match ready {
        Some("True") => {}
        Some("Unknown") => wanted.extend([(UNREACHABLE, "NoSchedule"), (UNREACHABLE, "NoExecute")]),
        // Not reported yet is not ready.
        _ => wanted.extend([(NOT_READY, "NoSchedule"), (NOT_READY, "NoExecute")]),
    }
    wanted.extend(PRESSURES.iter().filter(|(kind, _)| is_true(kind)).map(|(_, key)| (*key, "NoSchedule")));
    if node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or_default() {
        wanted.push((UNSCHEDULABLE, "NoSchedule"));
    }
    let ours = |taint: &Taint| {
        let no_schedule = PRESSURES.iter().any(|(_, key)| *key == taint.key) || [NOT_READY, UNREACHABLE, UNSCHEDULABLE].contains(&&*taint.key);
        let no_execute = [NOT_READY, UNREACHABLE].contains(&&*taint.key);
        (taint.effect == "NoSchedule" && no_schedule) || (taint.effect == "NoExecute" && no_execute)
    };
    let mut taints: Vec<Taint> = current.iter().filter(|taint| !ours(taint) || wanted.contains(&(&*taint.key, &*taint.effect))).cloned().collect();
    for (key, effect) in wanted {
        if !taints.iter().any(|taint| taint.key == key && taint.effect == effect) {
            taints.push(Taint { key: key.into(), effect: effect.into(), value: None, time_added: Some(whole_seconds(now)) });
        }
    }
    taints
}

#[async_trait]
impl Controller for NodeLifecycle {
    type World = World;
    type Action = Action;

    fn name(&self) -> &'static str {
        "node-lifecycle-controller"
    }

    fn observe(&self, key: &ObjectKey) -> Option<World> {
        let now = self.kit.now();
        let Some(node) = self.nodes.get(key) else {
            self.heard.lock().remove(key);
            return None;
        };
        let lease = self.leases.get(&ObjectKey::new(&key.cluster, LEASE_NAMESPACE, &key.name));
        let renewed = lease.and_then(|lease| lease.spec.as_ref()?.renew_time.as_ref().map(|time| time.0.to_string())).unwrap_or_default();
        let heartbeat = condition(&node, "Ready").and_then(|ready| ready.last_heartbeat_time.as_ref()).map(|time| time.0.to_string()).unwrap_or_default();
        let sign = format!("{renewed} {heartbeat}");
        let mut heard = self.heard.lock();
        let is_new = !heard.contains_key(key);
        let entry = heard.entry(key.clone()).or_insert_with(|| (sign.clone(), now));
        if entry.0 != sign {
            *entry = (sign, now);
        }
        Some(World { node, heard: entry.1, is_new, grace: self.grace, now })
    }

    fn reconcile(world: &World) -> Plan<Action> {
        let World { node, now, .. } = world;
        let mut plan = Plan::nothing();
        if world.is_new {
            plan.push(Action::Register);
        }
        let was_ready = condition(node, "Ready").map(|condition| condition.status.as_str());
        let mut ready = was_ready;
        match until(world.heard, world.grace, *now) {
            Some(left) => plan.look_again(left),
            None => {
                let conditions = conditions_after_silence(node, *now);
                ready = Some("Unknown");
                if node.status.as_ref().and_then(|status| status.conditions.as_ref()) != Some(&conditions) {
                    if was_ready == Some("True") {
                        plan.push(Action::MarkPodsNotReady);
                    }
                    plan.push(Action::SetConditions(conditions));
                }
            }
        }
        let taints = taints(node, ready, *now);
        if taints != node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default() {
            if was_ready == Some("False") && ready == was_ready && taints.iter().any(|taint| taint.key == NOT_READY) {
                plan.push(Action::MarkPodsNotReady);
            }
            plan.push(Action::SetTaints(taints));
        }
        plan
    }

    async fn act(&self, key: &ObjectKey, action: Action) -> Result<(), Error> {
        let Some(node) = self.nodes.get(key) else { return Ok(()) };
        match action {
            Action::Register => {
                self.events.normal(&key.cluster, &*node, "RegisteredNode", format!("Node {0} event: Registered Node {0} in Controller", key.name));
                Ok(())
            }
            Action::SetConditions(conditions) => {
                self.nodes.patch(key, "/status", &json!({"status": {"conditions": conditions}}), &Preconditions::exactly(&node.metadata)).await?;
                self.events.normal(&key.cluster, &*node, "NodeNotReady", format!("Node {} status is now: NodeNotReady", key.name));
                Ok(())
            }
            Action::SetTaints(taints) => {
                self.nodes.patch(key, "", &json!({"spec": {"taints": taints}}), &Preconditions::exactly(&node.metadata)).await?;
                Ok(())
            }
            Action::MarkPodsNotReady => self.mark_pods(key).await,
        }
    }
}

impl NodeLifecycle {
    /// Pods of a node that is not ready are not ready: services must not lead there.
    async fn mark_pods(&self, node: &ObjectKey) -> Result<(), Error> {
        for (key, pod) in self.pods.all() {
            if own_nodes::node_of(&key.cluster, &pod) != *node || !crate::pods::is_ready(&pod) {
                continue;
            }
            let mut conditions = pod.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
            for condition in conditions.iter_mut().filter(|condition| condition.type_ == "Ready") {
                condition.status = "False".into();
                condition.last_transition_time = Some(whole_seconds(self.kit.now()));
            }
            let patch = json!({"status": {"conditions": conditions}});
            match self.pods.patch(&key, "/status", &patch, &Preconditions::exactly(&pod.metadata)).await {
                Ok(_) => self.events.warning(&key.cluster, &*pod, "NodeNotReady", "Node is not ready"),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use controller_kit::converges;
    use serde_json::Value;

    fn world(ready: &str, with: Value) -> World {
        let mut value = json!({"metadata": {"name": "n"}, "spec": {"taints": [{"key": "own", "effect": "NoSchedule"}]},
            "status": {"conditions": [{"type": "Ready", "status": ready}]}});
        value["spec"].as_object_mut().unwrap().extend(with.as_object().unwrap().clone());
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        World { node: Arc::new(serde_json::from_value(value).unwrap()), heard: now, is_new: false, grace: Duration::from_secs(50), now }
    }

    fn settle(world: World) -> (World, bool) {
        let mut marked = false;
        let end = converges(world, 3, NodeLifecycle::reconcile, |world: &mut World, action| match action {
            Action::Register => world.is_new = false,
            Action::SetConditions(conditions) => Arc::make_mut(&mut world.node).status.as_mut().unwrap().conditions = Some(conditions),
            Action::SetTaints(taints) => Arc::make_mut(&mut world.node).spec.as_mut().unwrap().taints = Some(taints),
            Action::MarkPodsNotReady => marked = true,
        });
        (end, marked)
    }

    fn taints_of(world: &World) -> Vec<String> {
        world.node.spec.as_ref().unwrap().taints.iter().flatten().map(|taint| format!("{}:{}", taint.key, taint.effect)).collect()
    }

    #[test]
    fn a_silent_node_is_unknown_and_unreachable_until_it_speaks() {
        let mut world = world("True", json!({}));
        assert_eq!(NodeLifecycle::reconcile(&world).again_after, Some(Duration::from_secs(50)));
        world.now += jiff::SignedDuration::from_secs(50);
        let (mut world, marked) = settle(world);
        assert!(marked);
        let ready = condition(&world.node, "Ready").unwrap().clone();
        assert_eq!(
            (ready.status.as_str(), ready.reason.as_deref(), ready.message.as_deref()),
            ("Unknown", Some("NodeStatusUnknown"), Some("Kubelet stopped posting node status."))
        );
        assert_eq!(condition(&world.node, "DiskPressure").unwrap().reason.as_deref(), Some("NodeStatusNeverUpdated"));
        assert_eq!(taints_of(&world), ["own:NoSchedule", "node.kubernetes.io/unreachable:NoSchedule", "node.kubernetes.io/unreachable:NoExecute"]);
        world.heard = world.now;
        Arc::make_mut(&mut world.node).status.as_mut().unwrap().conditions.as_mut().unwrap()[0].status = "True".into();
        assert_eq!(taints_of(&settle(world).0), ["own:NoSchedule"]);
    }

    #[test]
    fn conditions_and_cordoning_show_as_taints() {
        assert_eq!(taints_of(&settle(world("False", json!({}))).0)[1..], ["node.kubernetes.io/not-ready:NoSchedule", "node.kubernetes.io/not-ready:NoExecute"]);
        assert_eq!(taints_of(&settle(world("True", json!({"unschedulable": true}))).0)[1..], ["node.kubernetes.io/unschedulable:NoSchedule"]);
    }
}
