//! Pod GC: removes pods whose node is gone, pods that will never start, and finished pods beyond a number.
use crate::pods;
use crate::taint_eviction::disrupt;
use api_meta::ClusterName;
use controller_kit::own_nodes;
use controller_kit::{Controller, Deletion, Error, Kit, ObjectKey, Objects, Plan, Preconditions, Runner, async_trait, until};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// How long a node must be missing before its pods count as lost.
const QUARANTINE: Duration = Duration::from_secs(40);
const FINISHED: &str = "finished";

pub struct PodGc {
    kit: Kit,
    nodes: Objects<Node>,
    pods: Objects<Pod>,
    threshold: usize,
    /// Since when a node with pods has been missing.
    missing: Mutex<HashMap<ObjectKey, Timestamp>>,
}

pub struct World {
    pub pod: Arc<Pod>,
    pub node_missing_since: Option<Timestamp>,
    /// Whether it is among the oldest finished pods beyond the threshold.
    pub is_excess: bool,
    pub now: Timestamp,
}

#[derive(Debug, PartialEq)]
pub enum Action {
    /// Its node is gone for good.
    DeleteOrphan,
    Delete,
}

fn finished(pod: &Pod) -> Vec<String> {
    if pods::is_finished(pod) { vec![String::new()] } else { Vec::new() }
}

/// `threshold` finished pods are kept in each cluster; 0 keeps all.
pub fn runner(kit: &Kit, threshold: usize) -> Runner<PodGc> {
    let (nodes, pods) = (kit.objects::<Node>(), kit.objects::<Pod>());
    pods.add_index(FINISHED, finished);
    let controller = PodGc { kit: kit.clone(), nodes: nodes.clone(), pods: pods.clone(), threshold, missing: Mutex::default() };
    let (all, known) = (pods.clone(), nodes.clone());
    let oldest_of = pods.clone();
    Runner::new(controller)
        .workers(4)
        .watch(&nodes, move |change| {
            if change.new.is_some() {
                return Vec::new();
            }
            all.all().into_iter().filter(|(key, pod)| own_nodes::node_of(&key.cluster, pod) == change.key).map(|(key, _)| key).collect()
        })
        .watch(&pods, move |change| {
            let Some(pod) = &change.new else { return Vec::new() };
            let node = pods::node_name(pod);
            let lost = !node.is_empty() && known.get(&own_nodes::node_of(&change.key.cluster, pod)).is_none();
            let never_starts = node.is_empty() && pods::is_terminating(pod);
            let mut keys: Vec<ObjectKey> = if lost || never_starts { vec![change.key.clone()] } else { Vec::new() };
            if threshold > 0 && pods::is_finished(pod) && change.old.as_ref().is_none_or(|old| !pods::is_finished(old)) {
                keys.extend(oldest_beyond(&oldest_of, &change.key.cluster, threshold));
            }
            keys
        })
}

/// The oldest finished pods of a cluster beyond the threshold.
fn oldest_beyond(pods: &Objects<Pod>, cluster: &ClusterName, threshold: usize) -> Vec<ObjectKey> {
    let mut finished = pods.by_index(FINISHED, cluster, "");
    if finished.len() <= threshold {
        return Vec::new();
    }
    finished.sort_by(|a, b| a.metadata.creation_timestamp.cmp(&b.metadata.creation_timestamp).then_with(|| a.metadata.name.cmp(&b.metadata.name)));
    finished.truncate(finished.len() - threshold);
    finished.iter().map(|pod| ObjectKey::of(cluster, &pod.metadata)).collect()
}

#[async_trait]
impl Controller for PodGc {
    type World = World;
    type Action = Action;

    fn name(&self) -> &'static str {
        "pod-garbage-collector-controller"
    }

    fn observe(&self, key: &ObjectKey) -> Option<World> {
        let pod = self.pods.get(key)?;
        let now = self.kit.now();
        let (node, place) = (pods::node_name(&pod), own_nodes::node_of(&key.cluster, &pod));
        let is_missing = !node.is_empty() && self.nodes.get(&place).is_none();
        let node_missing_since = {
            let mut missing = self.missing.lock();
            if is_missing {
                // Nodes missing for so long that all their pods are gone need no memory.
                missing.retain(|_, since| until(*since, QUARANTINE * 10, now).is_some());
                Some(*missing.entry(place).or_insert(now))
            } else {
                missing.remove(&place);
                None
            }
        };
        let is_excess = self.threshold > 0 && pods::is_finished(&pod) && oldest_beyond(&self.pods, &key.cluster, self.threshold).contains(key);
        Some(World { pod, node_missing_since, is_excess, now })
    }

    fn reconcile(world: &World) -> Plan<Action> {
        let mut plan = Plan::nothing();
        if let Some(since) = world.node_missing_since {
            match until(since, QUARANTINE, world.now) {
                None => plan.push(Action::DeleteOrphan),
                Some(left) => plan.look_again(left),
            }
        } else if world.is_excess || (pods::node_name(&world.pod).is_empty() && pods::is_terminating(&world.pod)) {
            plan.push(Action::Delete);
        }
        plan
    }

    async fn act(&self, key: &ObjectKey, action: Action) -> Result<(), Error> {
        let Some(pod) = self.pods.get(key) else { return Ok(()) };
        if action == Action::DeleteOrphan {
            let node = own_nodes::node_of(&key.cluster, &pod);
            if self.nodes.fresh(&node).await?.is_some() {
                return Ok(());
            }
            if !pods::is_finished(&pod) {
                disrupt(&self.kit, &self.pods, key, &pod, "DeletionByPodGC", "PodGC: node no longer exists", Some("Failed")).await?;
            }
        }
        let deletion = Deletion { preconditions: Preconditions::uid_of(&pod.metadata), grace_period_seconds: Some(0), propagation: None };
        self.pods.delete(key, &deletion).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use controller_kit::converges;
    use serde_json::json;

    #[test]
    fn lost_stillborn_and_excess_pods_go() {
        let world = |node: &str, going: bool, missing: Option<&str>, is_excess| {
            let pod = json!({"metadata": {"deletionTimestamp": going.then_some("2026-01-01T00:00:00Z")}, "spec": {"containers": [], "nodeName": node}});
            let node_missing_since = missing.map(|at| at.parse().unwrap());
            World { pod: Arc::new(serde_json::from_value(pod).unwrap()), node_missing_since, is_excess, now: "2026-01-01T00:01:00Z".parse().unwrap() }
        };
        assert_eq!(PodGc::reconcile(&world("n", true, None, false)), Plan::nothing());
        assert_eq!(PodGc::reconcile(&world("", true, None, false)).actions, [Action::Delete]);
        assert_eq!(PodGc::reconcile(&world("n", false, None, true)).actions, [Action::Delete]);
        assert_eq!(PodGc::reconcile(&world("n", false, Some("2026-01-01T00:00:10Z"), false)).actions, [Action::DeleteOrphan]);
        assert_eq!(PodGc::reconcile(&world("n", false, Some("2026-01-01T00:00:30Z"), false)).again_after, Some(Duration::from_secs(10)));
    }

    #[test]
    fn what_goes_is_gone_after_one_look() {
        for (node, going, missing, is_excess) in [("", true, None, false), ("n", false, None, true), ("n", true, Some("2026-01-01T00:00:00Z"), false)] {
            let pod = json!({"metadata": {"deletionTimestamp": going.then_some("2026-01-01T00:00:00Z")}, "spec": {"containers": [], "nodeName": node}});
            let node_missing_since = missing.map(|at: &str| at.parse().unwrap());
            let now = "2026-01-01T00:01:00Z".parse().unwrap();
            let world = World { pod: Arc::new(serde_json::from_value(pod).unwrap()), node_missing_since, is_excess, now };
            let decide = |world: &Option<World>| world.as_ref().map_or(Plan::nothing(), PodGc::reconcile);
            assert!(converges(Some(world), 1, decide, |world, _| *world = None).is_none());
        }
    }
}
