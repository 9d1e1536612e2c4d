//! Tables of what the stateful set controller does in which world.
use super::*;
use crate::history::Step;
use controller_kit::converges;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use reconcile::reconcile;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;

fn start() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => from.into_iter().for_each(|(k, v)| merge(into.entry(k).or_insert(Value::Null), v)),
        (into, from) => *into = from,
    }
}

fn world(spec: Value) -> World {
    let mut value = json!({"metadata": {"name": "db", "namespace": "n", "uid": "set", "generation": 1},
        "spec": {"replicas": 3, "serviceName": "peers", "selector": {"matchLabels": {"app": "db"}}, "revisionHistoryLimit": 1,
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
            "template": {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"name": "c", "image": "one"}]}}}});
    merge(&mut value["spec"], spec);
    World { set: Arc::new(serde_json::from_value(value).unwrap()), pods: vec![], revisions: vec![], claims: HashMap::new(), now: start() }
}

fn set_of(world: &mut World) -> &mut StatefulSet {
    Arc::make_mut(&mut world.set)
}

fn set_image(world: &mut World, image: &str) {
    let spec = &mut set_of(world).spec;
    spec.template.spec.as_mut().unwrap().containers[0].image = Some(image.into());
}

fn image(pod: &Pod) -> &str {
    pod.spec.as_ref().unwrap().containers[0].image.as_deref().unwrap()
}

fn add_claims(world: &mut World, claims: Vec<PersistentVolumeClaim>) {
    world.claims.extend(claims.into_iter().filter_map(|claim| Some((claim.metadata.name.clone()?, Arc::new(claim)))));
}

/// Does what API and node would; pods with one of these images become ready.
fn apply(world: &mut World, action: Action, healthy: &[&str]) {
    match action {
        Action::Revise(Step::Create(revision)) => world.revisions.push(Arc::new(*revision)),
        Action::Revise(Step::Renumber { revision, number }) => {
            let found = world.revisions.iter_mut().find(|other| other.metadata.name == revision.metadata.name).unwrap();
            Arc::make_mut(found).revision = Some(number);
        }
        Action::DeleteRevision(revision) => world.revisions.retain(|other| other.metadata.name != revision.metadata.name),
        Action::CreateClaims { claims, .. } => add_claims(world, claims),
        Action::CreatePod { mut pod, claims } => {
            add_claims(world, claims);
            let ready = if healthy.contains(&image(&pod)) { "True" } else { "False" };
            pod.metadata.uid = Some(format!("uid-{}-{}", pods::name(&pod), image(&pod)));
            pod.status = serde_json::from_value(
                json!({"phase": "Running", "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": world.now.to_string()}]}),
            )
            .unwrap();
            assert!(world.pods.iter().all(|other| pods::name(other) != pods::name(&pod)));
            world.pods.push(Arc::new(*pod));
        }
        Action::OwnClaim { claim, owners } => {
            let found = world.claims.get_mut(claim.metadata.name.as_ref().unwrap()).unwrap();
            Arc::make_mut(found).metadata.owner_references = Some(owners);
        }
        Action::DeletePod(pod) | Action::ReplaceEnded(pod) => world.pods.retain(|other| other.metadata.uid != pod.metadata.uid),
        Action::SetStatus(status) => set_of(world).status = Some(status),
        other => panic!("{other:?}"),
    }
}

fn settle(world: World) -> World {
    converges(world, 40, reconcile, |world, action| apply(world, action, &["one", "two", "three"]))
}

/// Pods by name with their images.
fn pods_of(world: &World) -> Vec<String> {
    let mut all: Vec<String> = world.pods.iter().map(|pod| format!("{}:{}", pods::name(pod), image(pod))).collect();
    all.sort();
    all
}

fn short(action: &Action) -> Option<String> {
    let names =
        |claims: &[PersistentVolumeClaim]| claims.iter().filter_map(|claim| Some(format!("claim {}, ", claim.metadata.name.as_deref()?))).collect::<String>();
    match action {
        Action::CreatePod { pod, claims } => Some(format!("{}create {}:{}", names(claims), pods::name(pod), image(pod))),
        Action::CreateClaims { pod, claims } => Some(format!("{}for {}", names(claims), pods::name(pod))),
        Action::DeletePod(pod) => Some(format!("delete {}", pods::name(pod))),
        Action::ReplaceEnded(pod) => Some(format!("replace {}", pods::name(pod))),
        Action::OwnClaim { claim, owners } => {
            let owners: Vec<&str> = owners.iter().map(|owner| owner.name.as_str()).collect();
            Some(format!("{} goes with [{}]", claim.metadata.name.as_deref()?, owners.join(",")))
        }
        _ => None,
    }
}

/// What is done to pods and claims next.
fn next(world: &World) -> Vec<String> {
    reconcile(world).actions.iter().filter_map(short).collect()
}

/// All that is done to pods and claims until it settles.
fn history(world: World) -> (World, Vec<String>) {
    let mut done = Vec::new();
    let end = converges(world, 40, reconcile, |world, action| {
        done.extend(short(&action));
        apply(world, action, &["one", "two", "three"]);
    });
    (end, done)
}

fn change_pod(world: &mut World, name: &str, with: Value) {
    let pod = world.pods.iter_mut().find(|pod| pods::name(pod) == name).unwrap();
    let mut value = serde_json::to_value(&**pod).unwrap();
    merge(&mut value, with);
    *pod = Arc::new(serde_json::from_value(value).unwrap());
}

#[test]
fn pods_come_in_order_and_know_their_names() {
    let (end, done) = history(world(json!({})));
    assert_eq!(done, ["create db-0:one", "create db-1:one", "create db-2:one"]);
    let pod = &end.pods[1];
    let labels = pod.metadata.labels.as_ref().unwrap();
    assert_eq!((labels["statefulset.kubernetes.io/pod-name"].as_str(), labels["apps.kubernetes.io/pod-index"].as_str()), ("db-1", "1"));
    assert_eq!(labels["controller-revision-hash"], *end.revisions[0].metadata.name.as_ref().unwrap());
    let spec = pod.spec.as_ref().unwrap();
    assert_eq!((spec.hostname.as_deref(), spec.subdomain.as_deref()), (Some("db-1"), Some("peers")));
    let status = end.set.status.as_ref().unwrap();
    assert_eq!((status.replicas, status.ready_replicas, status.current_replicas, status.updated_replicas), (3, Some(3), Some(3), Some(3)));
}

#[test]
fn a_pod_that_is_not_ready_holds_up_those_after_it_unless_parallel() {
    let stuck = converges(world(json!({})), 10, reconcile, |world, action| apply(world, action, &[]));
    assert_eq!(pods_of(&stuck), ["db-0:one"]);
    let parallel = converges(world(json!({"podManagementPolicy": "Parallel"})), 10, reconcile, |world, action| apply(world, action, &[]));
    assert_eq!(parallel.pods.len(), 3);
}

#[test]
fn min_ready_seconds_are_waited_for() {
    let mut waiting = converges(world(json!({"minReadySeconds": 10})), 10, reconcile, |world, action| apply(world, action, &["one"]));
    assert_eq!((pods_of(&waiting).len(), reconcile(&waiting).again_after.unwrap().as_secs()), (1, 10));
    waiting.now += jiff::SignedDuration::from_secs(10);
    assert_eq!(next(&waiting), ["create db-1:one"]);
}

#[test]
fn scale_down_takes_the_last_first_one_at_a_time() {
    let mut world = settle(world(json!({})));
    set_of(&mut world).spec.replicas = Some(1);
    assert_eq!(next(&world), ["delete db-2"]);
    change_pod(&mut world, "db-2", json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}));
    assert!(next(&world).is_empty());
    world.pods.retain(|pod| pods::name(pod) != "db-2");
    assert_eq!(history(world).1, ["delete db-1"]);
}

#[test]
fn ordinals_may_start_higher() {
    let (_, done) = history(world(json!({"replicas": 2, "ordinals": {"start": 5}})));
    assert_eq!(done, ["create db-5:one", "create db-6:one"]);
}

#[test]
fn an_update_goes_from_the_last_to_the_first() {
    let mut world = settle(world(json!({})));
    set_image(&mut world, "two");
    let (end, done) = history(world);
    assert_eq!(done, ["delete db-2", "create db-2:two", "delete db-1", "create db-1:two", "delete db-0", "create db-0:two"]);
    let status = end.set.status.as_ref().unwrap();
    assert_eq!((&status.current_revision, status.updated_replicas), (&status.update_revision, Some(3)));
    // Back again: the old revision is the newest.
    let mut back = end;
    set_image(&mut back, "one");
    let back = settle(back);
    assert_eq!((pods_of(&back)[0].as_str(), back.revisions.len()), ("db-0:one", 2));
}

#[test]
fn the_partition_keeps_the_first_at_the_old_revision() {
    let mut world = settle(world(json!({})));
    set_image(&mut world, "two");
    set_of(&mut world).spec.update_strategy = serde_json::from_value(json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 2}})).unwrap();
    let mut world = settle(world);
    assert_eq!(pods_of(&world), ["db-0:one", "db-1:one", "db-2:two"]);
    let status = world.set.status.as_ref().unwrap();
    assert_eq!((status.current_replicas, status.updated_replicas), (Some(2), Some(1)));
    world.pods.retain(|pod| pods::name(pod) == "db-1");
    assert_eq!(pods_of(&settle(world)), ["db-0:one", "db-1:one", "db-2:two"]);
}

#[test]
fn several_may_be_unavailable_if_allowed() {
    let mut world = settle(world(json!({"podManagementPolicy": "Parallel", "updateStrategy": {"rollingUpdate": {"maxUnavailable": "67%"}}})));
    set_image(&mut world, "two");
    assert_eq!(next(&world), ["delete db-2", "delete db-1"]);
}

#[test]
fn on_delete_waits_for_somebody_to_delete() {
    let mut world = settle(world(json!({"updateStrategy": {"type": "OnDelete", "rollingUpdate": null}})));
    set_image(&mut world, "two");
    let mut world = settle(world);
    assert_eq!(pods_of(&world), ["db-0:one", "db-1:one", "db-2:one"]);
    world.pods.remove(1);
    assert_eq!(pods_of(&settle(world)), ["db-0:one", "db-1:two", "db-2:one"]);
}

#[test]
fn a_failed_pod_is_made_anew() {
    let mut world = settle(world(json!({})));
    change_pod(&mut world, "db-1", json!({"status": {"phase": "Failed"}}));
    assert_eq!(history(world).1, ["replace db-1", "create db-1:one"]);
}

fn with_claims(policy: Value) -> World {
    let template = json!([{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}}]);
    world(json!({"replicas": 2, "volumeClaimTemplates": template, "persistentVolumeClaimRetentionPolicy": policy}))
}

#[test]
fn claims_come_before_their_pods_and_stay() {
    let (mut end, done) = history(with_claims(json!({"whenDeleted": "Retain", "whenScaled": "Retain"})));
    assert_eq!(done, ["claim data-db-0, create db-0:one", "claim data-db-1, create db-1:one"]);
    let volume = &end.pods[0].spec.as_ref().unwrap().volumes.as_ref().unwrap()[0];
    assert_eq!((volume.name.as_str(), volume.persistent_volume_claim.as_ref().unwrap().claim_name.as_str()), ("data", "data-db-0"));
    set_of(&mut end).spec.replicas = Some(1);
    assert_eq!(history(end).1, ["delete db-1"]);
}

#[test]
fn the_retention_policy_decides_who_owns_the_claims() {
    let mut end = settle(with_claims(json!({"whenDeleted": "Delete", "whenScaled": "Delete"})));
    let claim = &identity::claims(&end.set, 0)[0];
    assert_eq!(
        (claim.metadata.owner_references.as_ref().unwrap()[0].kind.as_str(), claim.metadata.labels.as_ref().unwrap()["app"].as_str()),
        ("StatefulSet", "db")
    );
    set_of(&mut end).spec.replicas = Some(1);
    // With the set as a second owner the claim would stay.
    let (mut end, done) = history(end);
    assert_eq!(done, ["data-db-1 goes with [db-1]", "delete db-1"]);

    // Until the claim has gone with its pod, the next pod of that name is not made.
    set_of(&mut end).spec.replicas = Some(2);
    let (mut end, done) = history(end);
    assert!(done.is_empty(), "{done:?}");
    end.claims.remove("data-db-1");
    let (mut end, done) = history(end);
    assert_eq!(done, ["claim data-db-1, create db-1:one"]);

    // A changed policy is followed by claims that are there.
    let policy = json!({"whenDeleted": "Retain", "whenScaled": "Retain"});
    set_of(&mut end).spec.persistent_volume_claim_retention_policy = serde_json::from_value(policy).unwrap();
    assert_eq!(history(end).1, ["data-db-0 goes with []", "data-db-1 goes with []"]);
}

#[test]
fn a_set_being_deleted_makes_nothing() {
    let mut world = world(json!({}));
    set_of(&mut world).metadata.deletion_timestamp = Some(Time(start()));
    assert!(next(&world).is_empty());
}
