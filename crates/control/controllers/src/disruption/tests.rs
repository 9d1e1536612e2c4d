//! Tables of what the disruption controller does in which world.
use super::reconcile::reconcile;
use super::*;
use controller_kit::converges;
use jiff::Timestamp;
use k8s_openapi::api::policy::v1::PodDisruptionBudgetStatus;
use serde_json::{Value, json};
use std::sync::Arc;

fn now() -> Timestamp {
    "2026-01-01T00:10:00Z".parse().unwrap()
}

fn pod(name: &str, owner: &str, ready: bool) -> Arc<Pod> {
    let owners =
        if owner.is_empty() { json!(null) } else { json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner, "uid": owner, "controller": true}]) };
    let value = json!({"metadata": {"name": name, "namespace": "n", "labels": {"app": "web"}, "ownerReferences": owners},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]}});
    Arc::new(serde_json::from_value(value).unwrap())
}

/// `pods` are `owner/ready` in short: `a+` is a ready pod of a, `a-` one that is not.
fn world(spec: Value, pods: &[&str], scales: &[(&str, Owner)]) -> World {
    let mut spec = spec;
    spec["selector"] = json!({"matchLabels": {"app": "web"}});
    let budget = serde_json::from_value(json!({"metadata": {"name": "b", "namespace": "n", "generation": 1}, "spec": spec})).unwrap();
    let pods = pods.iter().enumerate().map(|(n, text)| pod(&format!("p{n}"), &text[..text.len() - 1], text.ends_with('+'))).collect();
    World { budget: Arc::new(budget), pods, owners: scales.iter().map(|(uid, owner)| ((*uid).to_owned(), owner.clone())).collect(), now: now() }
}

fn scale(uid: &str, replicas: i32) -> Owner {
    Owner::Scaled(Scale { uid: uid.into(), replicas })
}

fn status(world: &World) -> PodDisruptionBudgetStatus {
    reconcile(world).actions.into_iter().find_map(|action| if let Action::SetStatus(status) = action { Some(*status) } else { None }).unwrap()
}

/// Expected, desired, healthy, allowed.
fn counts(world: &World) -> (i32, i32, i32, i32) {
    let status = status(world);
    (status.expected_pods.unwrap(), status.desired_healthy.unwrap(), status.current_healthy.unwrap(), status.disruptions_allowed.unwrap())
}

#[test]
fn budgets_count_as_documented() {
    let a = |n| ("a", scale("a", n));
    for (spec, pods, scales, want) in [
        (json!({"minAvailable": 1}), &["a+", "a+"][..], vec![], (2, 1, 2, 1)),
        (json!({"minAvailable": 3}), &["a+", "a-"], vec![], (2, 3, 1, 0)),
        (json!({"minAvailable": 1}), &["+"], vec![], (1, 1, 1, 0)),
        (json!({"minAvailable": "50%"}), &["a+", "a+", "a+"], vec![a(3)], (3, 2, 3, 1)),
        (json!({"maxUnavailable": 1}), &["a+", "a+"], vec![a(3)], (3, 2, 2, 0)),
        (json!({"maxUnavailable": "34%"}), &["a+", "a+", "a+"], vec![a(3)], (3, 1, 3, 2)),
        (json!({"maxUnavailable": 10}), &["a+"], vec![a(1)], (1, 0, 1, 1)),
        (json!({"maxUnavailable": 1}), &["a+", "b+"], vec![a(2), ("b", scale("b", 3))], (5, 4, 2, 0)),
        // Two ReplicaSets of one Deployment share its size.
        (json!({"maxUnavailable": 1}), &["a+", "b+"], vec![("a", scale("d", 2)), ("b", scale("d", 2))], (2, 1, 2, 1)),
        (json!({"minAvailable": 0}), &[], vec![], (0, 0, 0, 0)),
    ] {
        assert_eq!(counts(&world(spec.clone(), pods, &scales)), want, "{spec} {pods:?}");
    }
}

#[test]
fn pods_on_their_way_out_are_not_healthy() {
    let mut world = world(json!({"minAvailable": 1}), &["a+", "a+", "a+", "a+"], &[]);
    Arc::make_mut(&mut world.pods[0]).metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now()));
    let marked = json!({"disruptedPods": {"p1": "2026-01-01T00:09:00Z", "p2": "2026-01-01T00:07:00Z", "gone": "2026-01-01T00:09:00Z"}});
    Arc::make_mut(&mut world.budget).status = serde_json::from_value(marked).unwrap();
    let plan = reconcile(&world);
    assert_eq!(counts(&world), (4, 1, 2, 1));
    assert_eq!(status(&world).disrupted_pods.unwrap().into_keys().collect::<Vec<_>>(), ["p1"]);
    assert_eq!(plan.again_after.map(|left| left.as_secs()), Some(60));
    assert!(matches!(&plan.actions[0], Action::TellNotDeleted(pod) if crate::pods::name(pod) == "p2"));
}

#[test]
fn an_unknown_size_allows_nothing() {
    for (owner, message) in
        [(Owner::Unknown, "found no controllers for pod \"p0\""), (Owner::Unscalable("jobs.batch"), "jobs.batch does not implement the scale subresource")]
    {
        let world = world(json!({"maxUnavailable": 1}), &["a+"], &[("a", owner)]);
        let status = status(&world);
        let condition = &status.conditions.unwrap()[0];
        assert_eq!((status.disruptions_allowed, condition.reason.as_str(), condition.message.as_str()), (Some(0), "SyncFailed", message));
    }
}

#[test]
fn conditions_keep_their_time_until_they_turn_and_it_settles() {
    let apply = |world: &mut World, action| {
        if let Action::SetStatus(status) = action {
            Arc::make_mut(&mut world.budget).status = Some(*status);
        }
    };
    let mut end = converges(world(json!({"minAvailable": 1}), &["a+", "a+"], &[]), 2, reconcile, apply);
    let condition = |world: &World| world.budget.status.clone().unwrap().conditions.unwrap()[0].clone();
    assert_eq!((condition(&end).status.as_str(), condition(&end).reason.as_str()), ("True", "SufficientPods"));
    end.now += jiff::SignedDuration::from_secs(10);
    end.pods.truncate(1);
    let end = converges(end, 2, reconcile, apply);
    assert_eq!((condition(&end).reason.as_str(), condition(&end).last_transition_time.0), ("InsufficientPods", end.now));
}
