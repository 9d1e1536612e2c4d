//! Subresources: each changes its own part and no other.
use crate::support::{deployment, pod, quiet};
use serde_json::{Value, json};

const PODS: &str = "/api/v1/namespaces/default/pods";
const WEB: &str = "/apis/apps/v1/namespaces/default/deployments/web";

#[test]
fn status_and_the_rest_are_written_apart() {
    let (_server, api) = quiet();
    let made = api.post("/apis/apps/v1/namespaces/default/deployments", &deployment("web")).ok();
    let mut both = made.clone();
    both["spec"]["replicas"] = json!(5);
    both["status"] = json!({"replicas": 4, "observedGeneration": 1});
    both["metadata"]["labels"] = json!({"a": "b"});
    let by_status = api.put(&format!("{WEB}/status"), &both).ok();
    assert_eq!((&by_status["spec"], &by_status["status"]["replicas"], &by_status["metadata"]["generation"]), (&made["spec"], &json!(4), &json!(1)));
    both["metadata"]["resourceVersion"] = by_status["metadata"]["resourceVersion"].clone();
    both["status"] = json!({"replicas": 9});
    let by_object = api.put(WEB, &both).ok();
    assert_eq!((&by_object["spec"]["replicas"], &by_object["status"], &by_object["metadata"]["generation"]), (&json!(5), &by_status["status"], &json!(2)));
    let patched = api.patch("merge", &format!("{WEB}/status"), &json!({"spec": {"replicas": 7}, "status": {"replicas": 6}})).ok();
    assert_eq!((&patched["spec"]["replicas"], &patched["status"]["replicas"]), (&json!(5), &json!(6)));
    let through_main = api.patch("merge", WEB, &json!({"status": {"replicas": 1}})).ok();
    assert_eq!(through_main["metadata"]["resourceVersion"], patched["metadata"]["resourceVersion"], "there is no status to write here");
    assert_eq!(api.get(&format!("{WEB}/status")).ok(), patched);
    let apply = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "status": {"readyReplicas": 3}});
    let applied = api.patch("apply", &format!("{WEB}/status?fieldManager=m"), &apply).ok();
    assert_eq!((&applied["status"]["readyReplicas"], &applied["status"]["replicas"]), (&json!(3), &json!(6)));
    let managers = applied["metadata"]["managedFields"].as_array().unwrap();
    assert!(managers.iter().any(|m| m["manager"] == "m" && m["subresource"] == "status" && m["operation"] == "Apply"), "{managers:?}");
    assert_eq!(api.delete(&format!("{WEB}/status")).refusal().0, 405);
}

#[test]
fn scale_shows_and_sets_the_replicas_alone() {
    let (_server, api) = quiet();
    let made = api.post("/apis/apps/v1/namespaces/default/deployments", &deployment("web")).ok();
    let path = format!("{WEB}/scale");
    let mut scale = api.get(&path).ok();
    assert_eq!((&scale["kind"], &scale["apiVersion"]), (&json!("Scale"), &json!("autoscaling/v1")));
    assert_eq!((&scale["spec"], &scale["status"]), (&json!({"replicas": 2}), &json!({"replicas": 0, "selector": "app=web"})));
    assert_eq!(scale["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"]);
    scale["spec"]["replicas"] = json!(3);
    assert_eq!(api.put(&path, &scale).ok()["spec"]["replicas"], 3);
    assert_eq!(api.put(&path, &scale).refusal().1, "Conflict", "its resourceVersion is that of the object");
    assert_eq!(api.patch("merge", &path, &json!({"spec": {"replicas": 0}})).ok()["spec"]["replicas"], 0);
    assert_eq!(api.patch("json", &path, &json!([{"op": "replace", "path": "/spec/replicas", "value": 4}])).ok()["spec"]["replicas"], 4);
    let scaled = api.get(WEB).ok();
    assert_eq!(
        (&scaled["spec"]["replicas"], &scaled["spec"]["template"], &scaled["metadata"]["generation"]),
        (&json!(4), &made["spec"]["template"], &json!(4))
    );
    let (code, _, message) = api.patch("merge", &path, &json!({"spec": {"replicas": -1}})).refusal();
    assert_eq!((code, message.as_str()), (422, "Scale.autoscaling \"web\" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0"));
    assert_eq!(api.patch("merge", &path, &json!({"spec": {"replicas": "many"}})).refusal().0, 400);
    assert_eq!(api.put(&path, &json!({"metadata": {"name": "other"}, "spec": {"replicas": 1}})).refusal().0, 400);
    assert_eq!(api.put(&path, &json!({"spec": "x"})).refusal().0, 400);
    assert_eq!(api.get("/apis/apps/v1/namespaces/default/deployments/none/scale").refusal().2, "deployments.apps \"none\" not found");
    assert_eq!(api.get(WEB).ok(), scaled);
}

#[test]
fn a_pod_is_bound_once() {
    let (_server, api) = quiet();
    api.post(PODS, &pod("p")).ok();
    let binding = |uid: &str, node: &str| json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p", "uid": uid, "annotations": {"by": "me"}}, "target": {"kind": "Node", "name": node}});
    let path = format!("{PODS}/p/binding");
    assert_eq!(api.post(&path, &binding("other", "n")).refusal().1, "Conflict");
    assert_eq!(api.post(&path, &binding("", "")).refusal().2, "Binding \"p\" is invalid: target.name: Required value");
    assert_eq!(api.post(&path, &json!({"metadata": {"name": "p", "annotations": {"a": 1}}, "target": {"name": "n"}})).refusal().0, 400);
    assert_eq!(api.post(&path, &json!({"metadata": "p", "target": "n"})).refusal().0, 400);
    let codes: Vec<u16> = std::thread::scope(|scope| {
        let asked: Vec<_> = (0..6)
            .map(|n| {
                scope.spawn({
                    let (api, path) = (&api, &path);
                    move || api.post(path, &binding("", &format!("n{n}"))).code
                })
            })
            .collect();
        asked.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!((codes.iter().filter(|c| **c == 201).count(), codes.iter().filter(|c| **c == 409).count()), (1, 5), "{codes:?}");
    let bound = api.get(&format!("{PODS}/p")).ok();
    assert!(bound["spec"]["nodeName"].as_str().unwrap().starts_with('n'));
    assert_eq!(bound["metadata"]["annotations"]["by"], "me");
    assert!(bound["status"]["conditions"].as_array().unwrap().iter().any(|c| c["type"] == "PodScheduled" && c["status"] == "True"));
    let node = bound["spec"]["nodeName"].as_str().unwrap();
    assert_eq!(
        api.post(&path, &binding("", "m")).refusal().2,
        format!("Operation cannot be fulfilled on pods/binding \"p\": pod p is already assigned to node \"{node}\"")
    );
}

#[test]
fn evictions_spend_the_disruption_budget() {
    let (_server, api) = quiet();
    for name in ["a", "b", "c"] {
        let mut object = pod(name);
        object["metadata"]["labels"] = json!({"app": "web"});
        api.post(PODS, &object).ok();
        let ready = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
        api.patch("merge", &format!("{PODS}/{name}/status"), &ready).ok();
    }
    let budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
    api.post(budgets, &json!({"metadata": {"name": "web"}, "spec": {"minAvailable": 2, "selector": {"matchLabels": {"app": "web"}}}})).ok();
    let evict = |name: &str| api.post(&format!("{PODS}/{name}/eviction"), &json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}));
    let (code, reason, message) = evict("a").refusal();
    assert_eq!((code, reason.as_str(), message.as_str()), (429, "TooManyRequests", "The disruption budget web is still being processed by the server."));
    assert_eq!(evict("a").header("retry-after"), Some("10"));
    let allow = |allowed: u64| {
        let status = json!({"status": {"observedGeneration": 1, "disruptionsAllowed": allowed, "currentHealthy": 3, "desiredHealthy": 2, "expectedPods": 3}});
        api.patch("merge", &format!("{budgets}/web/status"), &status).ok();
    };
    allow(1);
    assert_eq!(evict("a").code, 201);
    let reply = evict("b");
    assert_eq!(reply.refusal().2, "Cannot evict pod as it would violate the pod's disruption budget.");
    let cause = json!([{"reason": "DisruptionBudget", "message": "The disruption budget web needs 2 healthy pods and has 3 currently"}]);
    assert_eq!(reply.json()["details"]["causes"], cause);
    let spent = api.get(&format!("{budgets}/web")).ok();
    assert_eq!(spent["status"]["disruptionsAllowed"], 0);
    assert!(spent["status"]["disruptedPods"]["a"].is_string());
    assert_eq!((api.get(&format!("{PODS}/a")).code, api.get(&format!("{PODS}/b")).code), (404, 200));
    // A pod that is not healthy, where enough others are, may go; and one that never ran.
    let unready: Value = json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}});
    api.patch("merge", &format!("{PODS}/b/status"), &unready).ok();
    assert_eq!(evict("b").code, 201);
    api.patch("merge", &format!("{PODS}/c/status"), &json!({"status": {"phase": "Pending"}})).ok();
    assert_eq!(api.post(&format!("{PODS}/c/eviction"), &json!({"metadata": {"name": "other"}})).refusal().0, 400);
    assert_eq!(evict("c").code, 201);
    assert_eq!(evict("c").refusal().0, 404);
}

#[test]
fn ephemeral_containers_are_added_by_their_own_path() {
    let (_server, api) = quiet();
    api.post(PODS, &pod("p")).ok();
    let patch = json!({"spec": {"ephemeralContainers": [{"name": "debug", "image": "d"}], "hostname": "h"}});
    let changed = api.patch("strategic-merge", &format!("{PODS}/p/ephemeralcontainers"), &patch).ok();
    assert_eq!(changed["spec"]["ephemeralContainers"][0]["name"], "debug");
    assert!(changed["spec"].get("hostname").is_none());
    let (code, _, message) =
        api.patch("strategic-merge", &format!("{PODS}/p"), &json!({"spec": {"ephemeralContainers": [{"name": "x", "image": "d"}]}})).refusal();
    assert_eq!(code, 422);
    assert!(message.contains("spec: Forbidden: pod updates may not change fields other than"), "{message}");
}
