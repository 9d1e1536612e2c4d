//! Taint eviction: pods leave nodes with NoExecute taints they do not bear, or no longer bear.
use crate::pods;
use controller_kit::own_nodes;
use controller_kit::tolerations::tolerates;
use controller_kit::{Controller, Deletion, Error, Kit, ObjectKey, Objects, Plan, Preconditions, Recorder, Runner, async_trait, until, whole_seconds};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, PodCondition, Taint};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

pub struct TaintEviction {
    kit: Kit,
    nodes: Objects<Node>,
    pods: Objects<Pod>,
    events: Recorder,
}

pub struct World {
    pub pod: Arc<Pod>,
    pub node: Arc<Node>,
    pub now: Timestamp,
}

#[derive(Debug, PartialEq)]
pub enum Action {
    Evict,
}

pub fn runner(kit: &Kit) -> Runner<TaintEviction> {
    let (nodes, pods) = (kit.objects::<Node>(), kit.objects::<Pod>());
    let controller = TaintEviction { kit: kit.clone(), nodes: nodes.clone(), pods: pods.clone(), events: kit.recorder("taint-eviction-controller") };
    let (all, known) = (pods.clone(), nodes.clone());
    Runner::new(controller)
        .workers(8)
        .watch(&nodes, move |change| {
            let taints = |node: &Option<Arc<Node>>| node.as_ref().map(|node| no_execute(node).cloned().collect::<Vec<_>>()).unwrap_or_default();
            if taints(&change.old) == taints(&change.new) {
                return Vec::new();
            }
            // The node's pods, whichever cluster they are of.
            all.all().into_iter().filter(|(key, pod)| own_nodes::node_of(&key.cluster, pod) == change.key).map(|(key, _)| key).collect()
        })
        .watch(&pods, move |change| {
            let Some(pod) = &change.new else { return Vec::new() };
            let moved = change.old.as_ref().is_none_or(|old| pods::node_name(old) != pods::node_name(pod) || tolerations(old) != tolerations(pod));
            let tainted = moved && known.get(&own_nodes::node_of(&change.key.cluster, pod)).is_some_and(|node| no_execute(&node).next().is_some());
            if tainted { vec![change.key.clone()] } else { Vec::new() }
        })
}

fn no_execute(node: &Node) -> impl Iterator<Item = &Taint> {
    node.spec.iter().flat_map(|spec| spec.taints.iter().flatten()).filter(|taint| taint.effect == "NoExecute")
}

fn tolerations(pod: &Pod) -> &[k8s_openapi::api::core::v1::Toleration] {
    pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default()
}

#[async_trait]
impl Controller for TaintEviction {
    type World = World;
    type Action = Action;

    fn name(&self) -> &'static str {
        "taint-eviction-controller"
    }

    fn observe(&self, key: &ObjectKey) -> Option<World> {
        let pod = self.pods.get(key)?;
        let node = self.nodes.get(&own_nodes::node_of(&key.cluster, &pod))?;
        Some(World { pod, node, now: self.kit.now() })
    }

    fn reconcile(world: &World) -> Plan<Action> {
        let mut plan = Plan::nothing();
        if pods::is_terminating(&world.pod) || pods::is_finished(&world.pod) {
            return plan;
        }
        for taint in no_execute(&world.node) {
            let bearing: Vec<_> = tolerations(&world.pod).iter().filter(|toleration| tolerates(toleration, taint)).collect();
            if bearing.is_empty() {
                return vec![Action::Evict].into();
            }
            // The shortest patience counts; a toleration without limit sets none.
            let Some(seconds) = bearing.iter().filter_map(|toleration| toleration.toleration_seconds).min() else { continue };
            let since = taint.time_added.as_ref().map_or(world.now, |time| time.0);
            match until(since, Duration::from_secs(u64::try_from(seconds).unwrap_or_default()), world.now) {
                None => return vec![Action::Evict].into(),
                Some(left) => plan.look_again(left),
            }
        }
        plan
    }

    async fn act(&self, key: &ObjectKey, Action::Evict: Action) -> Result<(), Error> {
        let Some(pod) = self.pods.get(key) else { return Ok(()) };
        self.events.normal(&key.cluster, &*pod, "TaintManagerEviction", format!("Marking for deletion Pod {}/{}", key.namespace, key.name));
        let message = "Taint manager: deleting due to NoExecute taint";
        disrupt(&self.kit, &self.pods, key, &pod, "DeletionByTaintManager", message, None).await?;
        self.pods.delete(key, &Deletion { preconditions: Preconditions::uid_of(&pod.metadata), ..Default::default() }).await
    }
}

/// Tells in the pod's status why it is made to go, and with `phase` what it ends as.
pub async fn disrupt(kit: &Kit, pods: &Objects<Pod>, key: &ObjectKey, pod: &Pod, reason: &str, message: &str, phase: Option<&str>) -> Result<(), Error> {
    let told = |condition: &PodCondition| {
        condition.type_ == "DisruptionTarget"
            && condition.status == "True"
            && condition.reason.as_deref() == Some(reason)
            && condition.message.as_deref() == Some(message)
    };
    let status = pod.status.as_ref();
    let mut conditions = status.and_then(|status| status.conditions.clone()).unwrap_or_default();
    // Said before by who did not come to delete it then: with each say it would never be deleted.
    if conditions.iter().any(told) && (phase.is_none() || status.and_then(|status| status.phase.as_deref()) == phase) {
        return Ok(());
    }
    conditions.retain(|condition| condition.type_ != "DisruptionTarget");
    conditions.push(PodCondition {
        type_: "DisruptionTarget".into(),
        status: "True".into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_transition_time: Some(whole_seconds(kit.now())),
        ..Default::default()
    });
    let mut patch = json!({"status": {"conditions": conditions}});
    if let Some(phase) = phase {
        patch["status"]["phase"] = json!(phase);
    }
    match pods.patch(key, "/status", &patch, &Preconditions::exactly(&pod.metadata)).await {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use controller_kit::converges;
    use serde_json::Value;

    fn plan(tolerations: Value) -> Plan<Action> {
        let node =
            json!({"spec": {"taints": [{"key": "k", "effect": "NoExecute", "timeAdded": "2026-01-01T00:00:00Z"}, {"key": "soft", "effect": "NoSchedule"}]}});
        let pod = json!({"spec": {"containers": [], "tolerations": tolerations}});
        let (node, pod) = (serde_json::from_value(node).unwrap(), serde_json::from_value(pod).unwrap());
        TaintEviction::reconcile(&World { node: Arc::new(node), pod: Arc::new(pod), now: "2026-01-01T00:01:00Z".parse().unwrap() })
    }

    #[test]
    fn pods_go_at_once_later_or_never_as_they_tolerate() {
        assert_eq!(plan(json!([])).actions, [Action::Evict]);
        assert_eq!(plan(json!([{"operator": "Exists"}])), Plan::nothing());
        let later = plan(json!([{"key": "k", "operator": "Exists", "tolerationSeconds": 300}, {"key": "k", "operator": "Exists", "effect": "NoExecute"}]));
        assert_eq!((later.actions.len(), later.again_after), (0, Some(Duration::from_secs(240))));
        assert_eq!(plan(json!([{"key": "k", "operator": "Exists", "tolerationSeconds": 60}])).actions, [Action::Evict]);
    }

    #[test]
    fn a_pod_is_evicted_once_at_the_end_of_the_shortest_patience() {
        let node = json!({"spec": {"taints": [{"key": "k", "effect": "NoExecute", "timeAdded": "2026-01-01T00:00:00Z"}]}});
        let patience = |seconds: i64| json!({"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds});
        let pod = json!({"spec": {"containers": [], "tolerations": [patience(300), patience(30)]}});
        let mut world = World {
            node: Arc::new(serde_json::from_value(node).unwrap()),
            pod: Arc::new(serde_json::from_value(pod).unwrap()),
            now: "2026-01-01T00:00:10Z".parse().unwrap(),
        };
        assert_eq!(TaintEviction::reconcile(&world).again_after, Some(Duration::from_secs(20)));
        world.now = "2026-01-01T00:00:30Z".parse().unwrap();
        converges(world, 1, TaintEviction::reconcile, |world, Action::Evict| {
            Arc::make_mut(&mut world.pod).metadata.deletion_timestamp = Some(whole_seconds(world.now));
        });
    }
}
