//! Tables of what the deployment controller does in which world.
use super::reconcile::reconcile;
use super::*;
use controller_kit::converges;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::Value;
use std::sync::Arc;

fn start() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn deployment(spec: Value) -> Deployment {
    let mut value = json!({
        "metadata": {"name": "web", "namespace": "n", "uid": "d", "generation": 1},
        "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "progressDeadlineSeconds": 600, "revisionHistoryLimit": 2,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "one"}]}}}
    });
    merge(&mut value["spec"], spec);
    serde_json::from_value(value).unwrap()
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => from.into_iter().for_each(|(k, v)| merge(into.entry(k).or_insert(Value::Null), v)),
        (into, from) => *into = from,
    }
}

fn world(deployment: Deployment) -> World {
    World { deployment: Arc::new(deployment), sets: vec![], pods: vec![], now: start() }
}

/// Does to the world what the API and the ReplicaSet controller would; `healthy` says which sets' pods become ready.
fn apply(world: &mut World, action: Action, healthy: &dyn Fn(&ReplicaSet) -> bool) {
    let run = |set: &mut ReplicaSet| {
        let replicas = set.spec.replicas.unwrap_or_default();
        let available = if healthy(set) { replicas } else { set.status.as_ref().and_then(|s| s.available_replicas).unwrap_or_default().min(replicas) };
        set.metadata.generation = Some(set.metadata.generation.unwrap_or_default() + 1);
        let status = set.status.get_or_insert_default();
        status.replicas = replicas;
        status.ready_replicas = Some(available);
        status.available_replicas = Some(available);
        status.observed_generation = set.metadata.generation;
    };
    match action {
        Action::CreateSet(mut set) => {
            set.metadata.uid = set.metadata.name.clone();
            set.metadata.creation_timestamp = Some(Time(world.now + SignedDuration::from_secs(world.sets.len() as i64)));
            run(&mut set);
            world.sets.push(Arc::new(*set));
        }
        Action::UpdateSet { mut set, .. } => {
            run(&mut set);
            world.sets.iter_mut().filter(|other| other.metadata.uid == set.metadata.uid).for_each(|other| *other = Arc::new((*set).clone()));
        }
        Action::DeleteSet(set) => world.sets.retain(|other| other.metadata.uid != set.metadata.uid),
        Action::SetRevision(revision) => {
            Arc::make_mut(&mut world.deployment).metadata.annotations.get_or_insert_default().insert(revision::REVISION.into(), revision);
        }
        Action::SetStatus(status) => Arc::make_mut(&mut world.deployment).status = Some(status),
        other => panic!("{other:?}"),
    }
}

fn only_one_is_healthy(set: &ReplicaSet) -> bool {
    set.spec.template.as_ref().unwrap().spec.as_ref().unwrap().containers[0].image.as_deref() == Some("one")
}

fn settle(world: World) -> World {
    converges(world, 20, reconcile, |world, action| apply(world, action, &|_| true))
}

fn sizes(world: &World) -> Vec<(String, i32)> {
    let image = |set: &ReplicaSet| set.spec.template.as_ref().unwrap().spec.as_ref().unwrap().containers[0].image.clone().unwrap();
    world.sets.iter().map(|set| (image(set), set.spec.replicas.unwrap())).collect()
}

fn with_image(world: World, image: &str) -> World {
    let mut deployment = (*world.deployment).clone();
    deployment.spec.template.spec.as_mut().unwrap().containers[0].image = Some(image.into());
    deployment.metadata.generation = deployment.metadata.generation.map(|g| g + 1);
    World { deployment: Arc::new(deployment), ..world }
}

fn condition(world: &World, kind: &str) -> (String, String) {
    let all = world.deployment.status.as_ref().unwrap().conditions.clone().unwrap();
    let one = all.into_iter().find(|c| c.type_.as_deref() == Some(kind)).unwrap();
    (one.status.unwrap(), one.reason.unwrap())
}

fn revision_of(world: &World) -> &str {
    &world.deployment.metadata.annotations.as_ref().unwrap()[revision::REVISION]
}

#[test]
fn the_first_set_gets_all_replicas_at_once() {
    let plan = reconcile(&world(deployment(json!({}))));
    let [Action::SetRevision(revision), Action::CreateSet(set), Action::SetStatus(status)] = &plan.actions[..] else { panic!("{plan:#?}") };
    assert_eq!((revision.as_str(), set.spec.replicas), ("1", Some(3)));
    let hash = &set.metadata.labels.as_ref().unwrap()["pod-template-hash"];
    assert_eq!(set.metadata.name.as_ref().unwrap(), &format!("web-{hash}"));
    assert_eq!(&set.spec.selector.match_labels.as_ref().unwrap()["pod-template-hash"], hash);
    let progressing = status.conditions.as_ref().unwrap().iter().find(|c| c.type_.as_deref() == Some("Progressing")).unwrap();
    assert_eq!(progressing.reason.as_deref(), Some("NewReplicaSetCreated"));
    let annotations = set.metadata.annotations.as_ref().unwrap();
    assert_eq!((annotations["deployment.kubernetes.io/desired-replicas"].as_str(), annotations["deployment.kubernetes.io/max-replicas"].as_str()), ("3", "4"));
}

#[test]
fn a_rollout_ends_complete_and_available() {
    let end = settle(world(deployment(json!({}))));
    assert_eq!(sizes(&end), [("one".to_owned(), 3)]);
    assert_eq!(condition(&end, "Progressing"), ("True".into(), "NewReplicaSetAvailable".into()));
    assert_eq!(condition(&end, "Available"), ("True".into(), "MinimumReplicasAvailable".into()));
}

#[test]
fn an_update_stays_within_surge_and_availability() {
    let first = settle(world(deployment(json!({"replicas": 10, "strategy": {"rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}}}))));
    let end = converges(with_image(first, "two"), 40, reconcile, |world, action| {
        apply(world, action, &|_| true);
        let total: i32 = world.sets.iter().map(|set| set.spec.replicas.unwrap()).sum();
        let available: i32 = world.sets.iter().map(|set| set.status.as_ref().unwrap().available_replicas.unwrap()).sum();
        assert!((8..=13).contains(&total) && available >= 8, "{total} {available}");
    });
    assert_eq!(sizes(&end), [("one".to_owned(), 0), ("two".to_owned(), 10)]);
    assert_eq!(revision_of(&end), "2");
}

#[test]
fn going_back_takes_the_old_set_as_a_new_revision() {
    let second = settle(with_image(settle(world(deployment(json!({})))), "two"));
    let back = settle(with_image(second, "one"));
    assert_eq!(sizes(&back), [("one".to_owned(), 3), ("two".to_owned(), 0)]);
    assert_eq!(revision_of(&back), "3");
    let annotations = back.sets[0].metadata.annotations.as_ref().unwrap();
    assert_eq!(annotations["deployment.kubernetes.io/revision-history"], "1");
}

#[test]
fn a_stuck_rollout_keeps_the_old_pods_and_times_out() {
    let first = settle(world(deployment(json!({}))));
    let mut stuck = with_image(first, "bad");
    for _ in 0..6 {
        for action in reconcile(&stuck).actions {
            apply(&mut stuck, action, &only_one_is_healthy);
        }
    }
    assert_eq!(sizes(&stuck), [("one".to_owned(), 3), ("bad".to_owned(), 1)]);
    let plan = reconcile(&stuck);
    assert_eq!(plan.again_after.map(|d| d.as_secs()), Some(601));
    stuck.now += SignedDuration::from_secs(601);
    for action in reconcile(&stuck).actions {
        apply(&mut stuck, action, &|_| false);
    }
    assert_eq!(condition(&stuck, "Progressing"), ("False".into(), "ProgressDeadlineExceeded".into()));
    // The unhealthy go first when a better template comes.
    let end = settle(with_image(stuck, "good"));
    assert_eq!(sizes(&end), [("one".to_owned(), 0), ("bad".to_owned(), 0), ("good".to_owned(), 3)]);
}

#[test]
fn a_set_made_by_who_did_not_get_to_tell_of_it_is_the_one_that_progressed() {
    for strategy in [json!({"type": "Recreate", "rollingUpdate": null}), json!({})] {
        let first = settle(world(deployment(json!({ "strategy": strategy }))));
        // Each look ends with its first write, as if the server died then.
        let end = converges(
            with_image(first, "two"),
            40,
            |world| Plan { actions: reconcile(world).actions.into_iter().take(1).collect(), again_after: None },
            |world, action| apply(world, action, &|_| true),
        );
        let conditions = end.deployment.status.as_ref().unwrap().conditions.clone().unwrap();
        let progressing = conditions.into_iter().find(|c| c.type_.as_deref() == Some("Progressing")).unwrap();
        let name = end.sets.last().unwrap().metadata.name.clone().unwrap();
        assert_eq!(progressing.message.unwrap(), format!("ReplicaSet {name:?} has successfully progressed."), "{strategy}");
    }
}

#[test]
fn recreate_waits_for_the_old_pods_to_end() {
    let first = settle(world(deployment(json!({"strategy": {"type": "Recreate", "rollingUpdate": null}}))));
    let mut next = with_image(first, "two");
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "p", "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "x", "uid": next.sets[0].metadata.uid, "controller": true}]},
        "status": {"phase": "Running"}
    }))
    .unwrap();
    next.pods = vec![Arc::new(pod)];
    let waiting = settle(next);
    assert_eq!(sizes(&waiting), [("one".to_owned(), 0)]);
    let end = settle(World { pods: vec![], ..waiting });
    assert_eq!(sizes(&end), [("one".to_owned(), 0), ("two".to_owned(), 3)]);
}

#[test]
fn scaling_during_a_rollout_keeps_proportions() {
    let first = settle(world(deployment(json!({"replicas": 10, "strategy": {"rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}}}))));
    let mut half = with_image(first, "two");
    // The new set at 3, the old one down to 8, the new set up to 5.
    for _ in 0..3 {
        for action in reconcile(&half).actions {
            apply(&mut half, action, &only_one_is_healthy);
        }
    }
    assert_eq!(sizes(&half), [("one".to_owned(), 8), ("two".to_owned(), 5)]);
    Arc::make_mut(&mut half.deployment).spec.replicas = Some(15);
    for action in reconcile(&half).actions {
        apply(&mut half, action, &|_| false);
    }
    assert_eq!(sizes(&half), [("one".to_owned(), 11), ("two".to_owned(), 7)]);
}

#[test]
fn a_paused_deployment_scales_but_does_not_roll() {
    let first = settle(world(deployment(json!({}))));
    let mut paused = with_image(first, "two");
    Arc::make_mut(&mut paused.deployment).spec.paused = Some(true);
    Arc::make_mut(&mut paused.deployment).spec.replicas = Some(5);
    let paused = settle(paused);
    assert_eq!(sizes(&paused), [("one".to_owned(), 5)]);
    assert_eq!(condition(&paused, "Progressing"), ("Unknown".into(), "DeploymentPaused".into()));
    let mut resumed = paused;
    Arc::make_mut(&mut resumed.deployment).spec.paused = Some(false);
    assert_eq!(sizes(&settle(resumed)), [("one".to_owned(), 0), ("two".to_owned(), 5)]);
}

#[test]
fn old_empty_sets_beyond_the_limit_go() {
    let mut world = settle(world(deployment(json!({}))));
    for image in ["two", "three", "four"] {
        world = settle(with_image(world, image));
    }
    assert_eq!(sizes(&world), [("two".to_owned(), 0), ("three".to_owned(), 0), ("four".to_owned(), 3)]);
}

#[test]
fn an_empty_selector_only_warns() {
    let plan = reconcile(&world(deployment(json!({"selector": {"matchLabels": null}}))));
    assert_eq!(plan.actions[0], Action::WarnSelectingAll);
    assert_eq!(plan.actions.len(), 2);
}

#[test]
fn a_hash_that_another_template_has_is_left_to_it() {
    let first = reconcile(&world(deployment(json!({}))));
    let name = |plan: &Plan<Action>| {
        plan.actions.iter().find_map(|action| match action {
            Action::CreateSet(set) => set.metadata.name.clone(),
            _ => None,
        })
    };
    let mut collided = deployment(json!({}));
    collided.status.get_or_insert_default().collision_count = Some(1);
    let again = reconcile(&world(collided));
    assert!(name(&first).is_some() && name(&again).is_some() && name(&first) != name(&again));
    let end = settle(World {
        deployment: Arc::new({
            let mut deployment = deployment(json!({}));
            deployment.status.get_or_insert_default().collision_count = Some(1);
            deployment
        }),
        ..world(deployment(json!({})))
    });
    assert_eq!(end.deployment.status.as_ref().unwrap().collision_count, Some(1), "the count is kept");
    // A later template's hash is of the same count, and known sets are found by their template, whatever their name.
    assert_eq!(sizes(&settle(with_image(settle(end), "two"))), [("one".to_owned(), 0), ("two".to_owned(), 3)]);
}
