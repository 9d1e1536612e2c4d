//! What to do for a ClusterSnapshot: taken once, whole; forgotten before its object goes.
use crate::kinds::{Cluster, Snapshot};
use crate::names::SNAPSHOT_FINALIZER;
use api_meta::SnapshotFacts;
use controller_kit::{Plan, Preconditions};
use jiff::Timestamp;
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

/// The status of one that was taken.
pub fn taken(facts: &SnapshotFacts, version: &str, now: Timestamp) -> Value {
    json!({
        "phase": "Ready", "message": null, "revision": facts.revision, "objects": facts.objects, "size": facts.size,
        "takenAt": clock::rfc3339_seconds(now), "hostVersion": version,
    })
}

/// The status of one that could not be taken, now or ever; `None` when that was said, or is nothing to anyone any more.
pub fn not_taken(snapshot: &Snapshot, ever: bool, why: &str) -> Option<Value> {
    let phase = if ever { "Failed" } else { "Pending" };
    let said = snapshot.status.phase == phase && snapshot.status.message == why;
    (!said && snapshot.metadata.deletion_timestamp.is_none()).then(|| json!({"phase": phase, "message": why}))
}

#[cfg(test)]
mod tests {
    use super::*;
    use controller_kit::converges;

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

    fn patch(world: &mut World, part: &str, change: &Value) {
        let mut snapshot = serde_json::to_value(&*world.snapshot).unwrap();
        snapshot[part].as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        snapshot[part].as_object_mut().unwrap().retain(|_, value| !value.is_null());
        world.snapshot = Arc::new(serde_json::from_value(snapshot).unwrap());
    }

    /// Does what is decided, by a server that answers as `answers` say, and then takes it; gives how often it was asked.
    fn settle(world: World, answers: &[(bool, &str)]) -> (World, usize) {
        let (mut asked, mut left) = (0, answers.iter());
        let end = converges(world, 1 + answers.len(), reconcile, |world, action| match action {
            Action::Finalizers { finalizers, .. } => patch(world, "metadata", &json!({"finalizers": finalizers})),
            Action::Status { status, .. } => patch(world, "status", &status),
            Action::Take { .. } => {
                asked += 1;
                let status = match left.next() {
                    Some((ever, why)) => not_taken(&world.snapshot, *ever, why),
                    None => Some(taken(&SnapshotFacts { revision: 7, objects: 3, size: 100 }, "v1", Timestamp::UNIX_EPOCH)),
                };
                if let Some(status) = status {
                    patch(world, "status", &status);
                }
            }
            Action::Forget { id } => assert_eq!(id, "u"),
        });
        (end, asked)
    }

    #[test]
    fn a_snapshot_is_taken_once_whatever_came_before() {
        let served = Some(json!({"hostVersion": "v1"}));
        let (new, unserved) = (|| world(json!({}), json!({}), served.clone()), || world(json!({}), json!({}), None));
        for (world, answers, expected) in [
            (new(), &[][..], ("Ready", "", 1)),
            (new(), &[(false, "the disk is full"), (false, "the disk is full")], ("Ready", "", 3)),
            (new(), &[(false, "the disk is full"), (true, "it is none that can be taken")], ("Failed", "it is none that can be taken", 2)),
            (unserved(), &[], ("Pending", "cluster \"mine\" is not ready", 0)),
        ] {
            let (end, asked) = settle(world, answers);
            assert_eq!((&*end.snapshot.status.phase, &*end.snapshot.status.message, asked), expected);
        }
        // Its cluster came, and it goes in the end.
        let (mut waiting, _) = settle(unserved(), &[]);
        waiting.cluster = new().cluster;
        let (mut kept, asked) = settle(waiting, &[]);
        assert_eq!((&*kept.snapshot.status.phase, asked), ("Ready", 1));
        patch(&mut kept, "metadata", &json!({"deletionTimestamp": "1970-01-01T00:00:00Z"}));
        assert_eq!(not_taken(&kept.snapshot, true, "it is too late"), None);
        let (gone, asked) = settle(kept, &[]);
        assert_eq!((gone.snapshot.metadata.finalizers.clone(), asked), (Some(Vec::new()), 0));
    }

    #[test]
    fn what_keeps_it_from_being_taken_is_said_once() {
        let said = world(json!({}), json!({"phase": "Pending", "message": "no"}), None).snapshot;
        for (ever, why, expected) in [(false, "no", None), (true, "no", Some("Failed")), (false, "not at all", Some("Pending"))] {
            let told = not_taken(&said, ever, why);
            assert_eq!(told.map(|status| status["phase"].as_str().unwrap().to_owned()).as_deref(), expected, "{ever} {why}");
        }
    }
}
