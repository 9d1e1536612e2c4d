//! What to do for a ClusterSnapshot: taken once, whole; forgotten before its object goes.
use crate::kinds::{Cluster, Snapshot};
use crate::names::SNAPSHOT_FINALIZER;
use controller_kit::{Plan, Preconditions};
use serde_json::{Value, json};
use std::sync::Arc;

pub struct World {
    pub snapshot: Arc<Snapshot>,
    /// The Cluster it names.
    pub cluster: Option<Arc<Cluster>>,
}

#[derive(Debug)]
pub enum Action {
    Finalizers { finalizers: Vec<String>, preconditions: Preconditions },
    Status { snapshot: Arc<Snapshot>, status: Value },
    Take { snapshot: Arc<Snapshot>, id: String },
    Forget { id: String },
}

pub fn reconcile(world: &World) -> Plan<Action> {
    let World { snapshot, cluster } = world;
    let metadata = &snapshot.metadata;
    let finalizers = metadata.finalizers.clone().unwrap_or_default();
    let held = finalizers.iter().any(|name| name == SNAPSHOT_FINALIZER);
    let id = metadata.uid.clone().unwrap_or_default();
    let mut plan = Plan::nothing();
    if metadata.deletion_timestamp.is_some() {
        if held {
            plan.push(Action::Forget { id });
            let finalizers = finalizers.into_iter().filter(|name| name != SNAPSHOT_FINALIZER).collect();
            plan.push(Action::Finalizers { finalizers, preconditions: Preconditions::uid_of(metadata) });
        }
        return plan;
    }
    // What was taken, or can't be, stays so.
    if matches!(snapshot.status.phase.as_str(), "Ready" | "Failed") {
        return plan;
    }
    let served = cluster.as_ref().is_some_and(|cluster| !cluster.status.host_version.is_empty() && cluster.metadata.deletion_timestamp.is_none());
    if !served {
        let message = format!("cluster {:?} is not ready", snapshot.spec.cluster_name);
        if snapshot.status.message != message {
            plan.push(Action::Status { snapshot: snapshot.clone(), status: json!({"phase": "Pending", "message": message}) });
        }
        return plan;
    }
    if !held {
        let finalizers = finalizers.into_iter().chain([SNAPSHOT_FINALIZER.to_owned()]).collect();
        plan.push(Action::Finalizers { finalizers, preconditions: Preconditions::exactly(metadata) });
    }
    plan.push(Action::Take { snapshot: snapshot.clone(), id });
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    fn world(metadata: Value, status: Value, cluster: Option<Value>) -> World {
        let mut snapshot =
            json!({"metadata": {"name": "s", "namespace": "team", "uid": "u", "resourceVersion": "1"}, "spec": {"clusterName": "mine"}, "status": status});
        snapshot["metadata"].as_object_mut().unwrap().extend(metadata.as_object().unwrap().clone());
        let cluster = cluster.map(|status| Arc::new(serde_json::from_value(json!({"metadata": {"name": "mine"}, "status": status})).unwrap()));
        World { snapshot: Arc::new(serde_json::from_value(snapshot).unwrap()), cluster }
    }

    fn check(world: &World, expected: &[&str]) {
        let plan = reconcile(world);
        let names = plan.actions.iter().map(|action| match action {
            Action::Finalizers { finalizers, .. } => format!("hold by {finalizers:?}"),
            Action::Status { status, .. } => format!("tell {}", status["message"]),
            Action::Take { id, .. } => format!("take {id}"),
            Action::Forget { id } => format!("forget {id}"),
        });
        assert_eq!(names.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_snapshot_is_held_before_it_is_taken_and_taken_once() {
        let served = || Some(json!({"hostVersion": "v1"}));
        let hold = format!("hold by [{SNAPSHOT_FINALIZER:?}]");
        check(&world(json!({}), json!({}), served()), &[&hold, "take u"]);
        check(&world(json!({"finalizers": [SNAPSHOT_FINALIZER]}), json!({"phase": "Pending"}), served()), &["take u"]);
        for phase in ["Ready", "Failed"] {
            check(&world(json!({}), json!({"phase": phase}), served()), &[]);
        }
    }

    #[test]
    fn it_waits_for_its_cluster_and_says_so_once() {
        for cluster in [None, Some(json!({}))] {
            check(&world(json!({}), json!({}), cluster.clone()), &["tell \"cluster \\\"mine\\\" is not ready\""]);
            check(&world(json!({}), json!({"phase": "Pending", "message": "cluster \"mine\" is not ready"}), cluster), &[]);
        }
    }

    #[test]
    fn it_is_forgotten_before_it_goes_whatever_became_of_its_cluster() {
        let gone = json!({"deletionTimestamp": "1970-01-01T00:00:00Z", "finalizers": [SNAPSHOT_FINALIZER]});
        check(&world(gone, json!({"phase": "Ready"}), None), &["forget u", "hold by []"]);
    }
}
