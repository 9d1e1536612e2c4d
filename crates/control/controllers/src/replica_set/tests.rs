//! Tables of what the replica set controller does in which world.
use super::reconcile::{counts_suffice, failed_status, reconcile};
use super::*;
use controller_kit::{Tally, converges};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde_json::{Value, json};

fn now() -> Timestamp {
    "2026-01-01T00:10:00Z".parse().unwrap()
}

fn set(replicas: i32) -> ReplicaSet {
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "n", "uid": "set", "generation": 2},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c"}]}}}
    }))
    .unwrap()
}

/// A ready pod of the set, changed by `with`.
fn pod(name: &str, with: Value) -> Arc<Pod> {
    let mut value = json!({
        "metadata": {"name": name, "namespace": "n", "uid": name, "labels": {"app": "web"}, "creationTimestamp": "2026-01-01T00:00:00Z",
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "set", "controller": true}]},
        "spec": {"containers": [{"name": "c"}], "nodeName": format!("node-{name}")},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}
    });
    merge(&mut value, with);
    Arc::new(serde_json::from_value(value).unwrap())
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => from.into_iter().for_each(|(k, v)| merge(into.entry(k).or_insert(Value::Null), v)),
        (into, from) => *into = from,
    }
}

fn world(replicas: i32, pods: Vec<Arc<Pod>>) -> World {
    World { set: Arc::new(set(replicas)), pods: Pods::Each(pods), on_node: HashMap::new(), now: now() }
}

fn each(world: &mut World) -> &mut Vec<Arc<Pod>> {
    match &mut world.pods {
        Pods::Each(pods) => pods,
        Pods::Counted(_) => panic!("these pods are counted only"),
    }
}

/// The actions in short, without the status.
fn actions(world: &World) -> Vec<String> {
    let names = |pods: &[Arc<Pod>]| pods.iter().map(|p| pods::name(p).to_owned()).collect::<Vec<_>>().join(",");
    let plan = reconcile(world);
    let short = plan.actions.iter().filter_map(|action| match action {
        Action::Adopt(pod) => Some(format!("adopt {}", pods::name(pod))),
        Action::Release(pod) => Some(format!("release {}", pods::name(pod))),
        Action::CreatePods(count) => Some(format!("create {count}")),
        Action::DeletePods(pods) => Some(format!("delete {}", names(pods))),
        Action::SetStatus(_) => None,
    });
    short.collect()
}

#[test]
fn pods_being_deleted_or_finished_do_not_count() {
    let going = pod("a", json!({"metadata": {"deletionTimestamp": "2026-01-01T00:09:00Z"}}));
    let failed = pod("b", json!({"status": {"phase": "Failed"}}));
    assert_eq!(actions(&world(2, vec![going, failed])), ["create 2"]);
}

#[test]
fn strays_are_released_and_orphans_adopted_before_pods_are_made() {
    let stray = pod("stray", json!({"metadata": {"labels": {"app": "other"}}}));
    let orphan = pod("orphan", json!({"metadata": {"ownerReferences": null}}));
    assert_eq!(actions(&world(2, vec![stray, orphan])), ["release stray", "adopt orphan", "create 1"]);
}

#[test]
fn a_set_being_deleted_makes_nothing() {
    let mut world = world(3, vec![]);
    let mut set = set(3);
    set.metadata.deletion_timestamp = Some(Time(now()));
    world.set = Arc::new(set);
    assert!(actions(&world).is_empty());
}

#[test]
fn scale_down_takes_the_least_useful_first() {
    let ready_at = |time: &str| json!({"status": {"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": time}]}});
    let unready = json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}});
    let all = vec![
        pod("old", json!({})),
        pod("young", ready_at("2026-01-01T00:09:00Z")),
        pod("costly", json!({"metadata": {"annotations": {"controller.kubernetes.io/pod-deletion-cost": "10"}}})),
        pod("cheap", json!({"metadata": {"annotations": {"controller.kubernetes.io/pod-deletion-cost": "-10"}}})),
        pod("unready", unready),
        pod("pending", json!({"status": {"phase": "Pending", "conditions": []}})),
        pod("unassigned", json!({"spec": {"nodeName": null}, "status": {"phase": "Pending", "conditions": []}})),
        pod("crowded", json!({})),
        pod("restarted", json!({"status": {"containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": true, "restartCount": 4}]}})),
    ];
    let mut world = world(0, all);
    world.on_node = [("node-crowded".to_owned(), 3)].into();
    assert_eq!(actions(&world), ["delete unassigned,pending,unready,cheap,crowded,young,restarted,old,costly"]);
}

#[test]
fn status_counts_and_waits_for_min_ready_seconds() {
    let mut world = world(
        2,
        vec![
            pod("a", json!({})),
            pod("b", json!({"status": {"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:09:50Z"}]}})),
        ],
    );
    let mut set = set(2);
    set.spec.min_ready_seconds = Some(30);
    world.set = Arc::new(set);
    let plan = reconcile(&world);
    let [Action::SetStatus(status)] = &plan.actions[..] else { panic!("{plan:?}") };
    assert_eq!((status.replicas, status.ready_replicas, status.available_replicas, status.observed_generation), (2, Some(2), Some(1), Some(2)));
    assert_eq!(plan.again_after, Some(std::time::Duration::from_secs(20)));
}

#[test]
fn where_counts_suffice_they_decide_the_same() {
    let unready = json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}});
    let going = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:09:00Z"}});
    let labelled = json!({"metadata": {"labels": {"more": "x"}}});
    let all = [("a", json!({})), ("b", unready), ("c", going), ("d", json!({"status": {"phase": "Failed"}})), ("e", labelled)];
    let own: Vec<Arc<Pod>> = all.into_iter().map(|(name, with)| pod(name, with)).collect();
    let counts: PodCounts = own.iter().map(|pod| &**pod).collect();
    for replicas in [3, 4, 600] {
        let each = world(replicas, own.clone());
        assert!(counts_suffice(&each.set, &counts, &[]));
        let counted = World { pods: Pods::Counted(counts.clone()), ..world(replicas, vec![]) };
        assert_eq!(reconcile(&counted), reconcile(&each), "{replicas}");
        assert_eq!(failed_status(&counted, "quota"), failed_status(&each, "quota"), "{replicas}");
    }
    let stray = pod("stray", json!({"metadata": {"labels": {"app": "other"}}}));
    let orphan = pod("orphan", json!({"metadata": {"ownerReferences": null}}));
    assert!(!counts_suffice(&set(2), &counts, &[]), "some have to go");
    assert!(!counts_suffice(&set(9), &counts, &[orphan]), "one is to be adopted");
    assert!(!counts_suffice(&set(9), &own.iter().chain([&stray]).map(|pod| &**pod).collect(), &[]), "one is to be released");
    let patient = ReplicaSet { spec: ReplicaSetSpec { min_ready_seconds: Some(1), ..set(9).spec }, ..set(9) };
    assert!(!counts_suffice(&patient, &counts, &[]), "they have to grow old");
    let mut left = counts.clone();
    own.iter().for_each(|pod| left.remove(pod));
    assert_eq!(left, PodCounts::default());
}

#[test]
fn a_failure_is_told_until_it_is_over() {
    let mut world = world(2, vec![]);
    let status = failed_status(&world, "quota").unwrap();
    let condition = &status.conditions.as_ref().unwrap()[0];
    assert_eq!(
        (condition.type_.as_deref(), condition.reason.as_deref(), condition.message.as_deref()),
        (Some("ReplicaFailure"), Some("FailedCreate"), Some("quota"))
    );
    world.set = Arc::new(ReplicaSet { status: Some(status), ..set(2) });
    assert_eq!(failed_status(&world, "quota"), None);
    let Some(Action::SetStatus(over)) = reconcile(&world).actions.pop() else { panic!() };
    assert_eq!(over.conditions, None);
}

#[test]
fn it_settles() {
    let start = world(3, vec![pod("orphan", json!({"metadata": {"ownerReferences": null}}))]);
    let mut made = 0;
    let mut end = converges(start, 5, reconcile, |world, action| match action {
        Action::Adopt(orphan) | Action::Release(orphan) => {
            each(world).retain(|p| p.metadata.name != orphan.metadata.name);
            each(world).push(pod(pods::name(&orphan), json!({})));
        }
        Action::CreatePods(count) => (0..count).for_each(|_| {
            made += 1;
            each(world).push(pod(&format!("made{made}"), json!({})));
        }),
        Action::DeletePods(doomed) => each(world).retain(|p| !doomed.contains(p)),
        Action::SetStatus(status) => world.set = Arc::new(ReplicaSet { status: Some(status), ..(*world.set).clone() }),
    });
    assert_eq!((each(&mut end).len(), end.set.status.as_ref().unwrap().ready_replicas), (3, Some(3)));
}

#[test]
fn a_replication_controller_is_seen_as_a_replica_set() {
    let elder: Arc<ReplicationController> = Arc::new(
        serde_json::from_value(
            json!({"metadata": {"name": "r"}, "spec": {"replicas": 2, "selector": {"a": "b"}, "template": {"metadata": {}}}, "status": {"replicas": 1}}),
        )
        .unwrap(),
    );
    let seen = elder.as_replica_set();
    assert_eq!((seen.metadata.clone(), seen.spec.replicas), (ObjectMeta { name: Some("r".into()), ..Default::default() }, Some(2)));
    assert_eq!(elder.with_status(seen.status.clone().unwrap()), *elder);
}
