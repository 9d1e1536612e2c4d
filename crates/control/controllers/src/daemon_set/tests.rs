//! Tables of what the daemon set controller does in which world.
use super::reconcile::reconcile;
use super::*;
use controller_kit::converges;
use serde_json::Value;

fn node(name: &str, with: Value) -> Arc<Node> {
    let mut value = json!({"metadata": {"name": name, "labels": {"kind": "worker"}}, "spec": {}});
    merge(&mut value, with);
    Arc::new(serde_json::from_value(value).unwrap())
}

fn world(spec: Value, nodes: Vec<Arc<Node>>) -> World {
    let mut value = json!({"metadata": {"name": "agent", "namespace": "n", "uid": "d", "generation": 1},
        "spec": {"selector": {"matchLabels": {"app": "agent"}}, "template": {"metadata": {"labels": {"app": "agent"}}, "spec": {"containers": [{"name": "c", "image": "one"}]}}}});
    merge(&mut value["spec"], spec);
    World {
        set: Arc::new(serde_json::from_value(value).unwrap()),
        pods: vec![],
        revisions: vec![],
        nodes,
        backoffs: HashMap::new(),
        now: Timestamp::UNIX_EPOCH,
    }
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => from.into_iter().for_each(|(k, v)| merge(into.entry(k).or_insert(Value::Null), v)),
        (into, from) => *into = from,
    }
}

fn apply(world: &mut World, action: Action, log: &mut Vec<String>) {
    let place = |pod: &Pod| placement::node_of(pod).unwrap();
    match action {
        Action::Revise(Step::Create(revision)) => world.revisions.push(Arc::new(*revision)),
        Action::CreatePods(pods) => {
            for mut pod in pods {
                log.push(format!("+{}", place(&pod)));
                pod.metadata.name = Some(format!("agent-{}", world.pods.len() + log.len()));
                pod.status = serde_json::from_value(json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]})).unwrap();
                world.pods.push(Arc::new(pod));
            }
        }
        Action::DeletePods(doomed) => doomed.iter().for_each(|pod| {
            log.push(format!("-{}", place(pod)));
            world.pods.retain(|other| other != pod);
        }),
        Action::ReplaceEnded { pod, node } => {
            log.push(format!("!{node}"));
            world.pods.retain(|other| *other != pod);
        }
        Action::DeleteRevision(revision) => world.revisions.retain(|other| *other != revision),
        Action::SetStatus(status) => Arc::make_mut(&mut world.set).status = Some(status),
        other => panic!("{other:?}"),
    }
}

fn settle(world: World) -> (World, String) {
    let mut log = Vec::new();
    let end = converges(world, 20, reconcile, |world, action| apply(world, action, &mut log));
    (end, log.join(" "))
}

fn tainted(effect: &str) -> Value {
    json!({"spec": {"taints": [{"key": "k", "effect": effect}]}})
}

#[test]
fn every_node_that_can_has_one_pod() {
    let nodes = vec![
        node("n1", json!({})),
        node("n2", tainted("NoSchedule")),
        node("n3", json!({"metadata": {"labels": {"kind": "other"}}})),
        node("n4", tainted("PreferNoSchedule")),
    ];
    let (world, log) = settle(world(json!({"template": {"spec": {"nodeSelector": {"kind": "worker"}}}}), nodes));
    assert_eq!(log, "+n1 +n4");
    let status = world.set.status.as_ref().unwrap();
    assert_eq!(
        (status.desired_number_scheduled, status.current_number_scheduled, status.number_ready, status.number_available, status.updated_number_scheduled),
        (2, 2, 2, Some(2), Some(2))
    );
    let tolerations = world.pods[0].spec.as_ref().unwrap().tolerations.clone().unwrap();
    assert!(tolerations.iter().any(|t| t.key.as_deref() == Some("node.kubernetes.io/unschedulable")));
}

#[test]
fn a_new_soft_reason_keeps_pods_and_a_hard_one_takes_them() {
    let (mut world, _) = settle(world(json!({}), vec![node("n1", json!({})), node("n2", json!({})), node("n3", json!({}))]));
    world.nodes = vec![
        node("n1", tainted("NoSchedule")),
        node("n2", tainted("NoExecute")),
        node("n3", json!({"spec": {"taints": [{"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"}]}})),
    ];
    let (world, log) = settle(world);
    assert_eq!((log.as_str(), world.set.status.as_ref().unwrap().number_misscheduled), ("-n2", 1));
}

fn updated(mut world: World) -> World {
    Arc::make_mut(&mut world.set).spec.template.spec.as_mut().unwrap().containers[0].image = Some("two".into());
    world
}

#[test]
fn updates_go_node_by_node_or_surge() {
    let nodes = || vec![node("n1", json!({})), node("n2", json!({})), node("n3", json!({}))];
    let (start, _) = settle(world(json!({}), nodes()));
    let (end, log) = settle(updated(start));
    assert_eq!(log, "-n1 +n1 -n2 +n2 -n3 +n3");
    assert_eq!((end.set.status.as_ref().unwrap().updated_number_scheduled, end.revisions.len()), (Some(3), 2));
    let surge = json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}});
    let (start, _) = settle(world(surge, nodes()));
    assert_eq!(settle(updated(start)).1, "+n1 -n1 +n2 -n2 +n3 -n3");
    let (start, _) = settle(world(json!({"updateStrategy": {"type": "OnDelete"}}), nodes()));
    assert_eq!(settle(updated(start)).1, "");
}

#[test]
fn failed_pods_are_replaced_after_their_backoff() {
    let (mut world, _) = settle(world(json!({}), vec![node("n1", json!({}))]));
    Arc::make_mut(&mut world.pods[0]).status.as_mut().unwrap().phase = Some("Failed".into());
    world.backoffs.insert("n1".into(), world.now + SignedDuration::from_secs(4));
    assert_eq!(reconcile(&world).again_after, Some(std::time::Duration::from_secs(4)));
    world.now += SignedDuration::from_secs(4);
    assert_eq!(settle(world).1, "!n1 +n1");
}

#[test]
fn one_pod_too_many_goes() {
    let (mut world, _) = settle(world(json!({}), vec![node("n1", json!({}))]));
    let mut second = (*world.pods[0]).clone();
    second.metadata.name = Some("agent-zz".into());
    world.pods.push(Arc::new(second));
    let (world, log) = settle(world);
    assert_eq!((log.as_str(), world.pods[0].metadata.name.as_deref()), ("-n1", Some("agent-1")));
}

/// The pod of a node is not ready any more.
fn unready(world: &mut World, node: &str) {
    let pod = world.pods.iter_mut().find(|pod| placement::node_of(pod).as_deref() == Some(node)).unwrap();
    Arc::make_mut(pod).status = serde_json::from_value(json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}]})).unwrap();
}

#[test]
fn a_surge_replaces_at_once_what_does_not_serve() {
    let nodes = || vec![node("n1", json!({})), node("n2", json!({})), node("n3", json!({}))];
    let surge = json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}});
    let (mut start, _) = settle(world(surge, nodes()));
    unready(&mut start, "n2");
    unready(&mut start, "n3");
    // Beyond the one that surges, those two are free to be replaced.
    assert_eq!(settle(updated(start)).1, "+n2 +n3 +n1 -n1 -n2 -n3");
}

#[test]
fn an_update_waits_for_pods_that_go() {
    let (mut start, _) = settle(world(json!({}), vec![node("n1", json!({})), node("n2", json!({}))]));
    let going = Arc::make_mut(&mut start.pods[0]);
    going.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::UNIX_EPOCH));
    let mut log = Vec::new();
    let plan = reconcile(&updated(start));
    for action in plan.actions {
        if let Action::DeletePods(doomed) = action {
            log.extend(doomed.iter().map(|pod| placement::node_of(pod).unwrap()));
        }
    }
    assert!(log.is_empty(), "{log:?}");
}

#[test]
fn of_two_pods_the_one_with_a_place_stays() {
    let (mut world, _) = settle(world(json!({}), vec![node("n1", json!({}))]));
    let mut second = (*world.pods[0]).clone();
    second.metadata.name = Some("agent-zz".into());
    second.spec.as_mut().unwrap().node_name = Some("n1".into());
    world.pods.push(Arc::new(second));
    let (world, log) = settle(world);
    assert_eq!((log.as_str(), world.pods[0].metadata.name.as_deref()), ("-n1", Some("agent-zz")));
}
