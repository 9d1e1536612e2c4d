//! Dry runs: they answer as the real thing would, and nothing changes.
use crate::support::{CONFIG_MAPS, config_map, deployment, everything, names, pod, quiet};
use serde_json::{Value, json};
use testkit::Api;

/// Asks with `dryRun=All`, and gives the answer if nothing is stored differently afterwards.
fn dry(api: &Api, ask: impl FnOnce(&dyn Fn(&str) -> String) -> testkit::Reply) -> testkit::Reply {
    let before = everything(api);
    let reply = ask(&|path| format!("{path}?dryRun=All"));
    assert_eq!(everything(api), before);
    reply
}

#[test]
fn a_dry_run_of_any_verb_changes_nothing() {
    let (_server, api) = quiet();
    let (pods, services) = ("/api/v1/namespaces/default/pods", "/api/v1/namespaces/default/services");
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    api.post(CONFIG_MAPS, &config_map("a", &json!({"k": "1"}))).ok();
    api.post(CONFIG_MAPS, &config_map("b", &json!({"k": "1"}))).ok();
    api.post(pods, &pod("p")).ok();
    api.post(deployments, &deployment("web")).ok();
    api.post("/api/v1/nodes", &json!({"metadata": {"name": "n"}})).ok();
    let one = format!("{CONFIG_MAPS}/a");

    let created = dry(&api, |dry| api.post(&dry(CONFIG_MAPS), &config_map("c", &json!({"k": "1"})))).ok();
    assert!(created["metadata"]["uid"].is_string() && created["metadata"].get("resourceVersion").is_none());
    let generated = dry(&api, |dry| api.post(&dry(CONFIG_MAPS), &json!({"metadata": {"generateName": "g-"}}))).ok();
    assert_eq!(generated["metadata"]["name"].as_str().unwrap().len(), 7);
    assert_eq!(dry(&api, |dry| api.post(&dry(CONFIG_MAPS), &config_map("a", &json!({})))).refusal().1, "AlreadyExists");
    assert_eq!(dry(&api, |dry| api.post(&dry(CONFIG_MAPS), &config_map("No", &json!({})))).refusal().1, "Invalid");
    let service = json!({"metadata": {"name": "s"}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}});
    let allocated = dry(&api, |dry| api.post(&dry(services), &service)).ok();
    assert!(allocated["spec"]["clusterIP"].is_string() && allocated["spec"]["ports"][0]["nodePort"].is_number());

    assert_eq!(dry(&api, |dry| api.put(&dry(&one), &config_map("a", &json!({"k": "2"})))).ok()["data"]["k"], "2");
    let lease = "/apis/coordination.k8s.io/v1/namespaces/default/leases/l";
    assert_eq!(dry(&api, |dry| api.put(&dry(lease), &json!({"metadata": {"name": "l"}}))).code, 201);
    for kind in ["merge", "strategic-merge"] {
        assert_eq!(dry(&api, |dry| api.patch(kind, &dry(&one), &json!({"data": {"k": "2"}}))).ok()["data"]["k"], "2");
    }
    let replace = json!([{"op": "replace", "path": "/data/k", "value": "2"}]);
    assert_eq!(dry(&api, |dry| api.patch("json", &dry(&one), &replace)).ok()["data"]["k"], "2");
    let apply = |name: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"k": "3"}});
    let applied =
        |name: &str| dry(&api, |dry| api.patch("apply", &format!("{}&fieldManager=m&force=true", dry(&format!("{CONFIG_MAPS}/{name}"))), &apply(name)));
    assert_eq!((applied("a").code, applied("new").code), (200, 201));

    let status = json!({"status": {"phase": "Running"}});
    assert_eq!(dry(&api, |dry| api.patch("merge", &dry(&format!("{pods}/p/status")), &status)).ok()["status"]["phase"], "Running");
    let scaled = dry(&api, |dry| api.patch("merge", &dry(&format!("{deployments}/web/scale")), &json!({"spec": {"replicas": 9}}))).ok();
    assert_eq!(scaled["spec"]["replicas"], 9);
    assert_eq!(dry(&api, |dry| api.post(&dry(&format!("{pods}/p/binding")), &json!({"target": {"kind": "Node", "name": "n"}}))).code, 201);
    assert_eq!(dry(&api, |dry| api.post(&dry(&format!("{pods}/p/eviction")), &json!({"metadata": {"name": "p"}}))).code, 201);
    let inside = json!({"metadata": {"name": "p"}, "deleteOptions": {"dryRun": ["All"]}});
    assert_eq!(dry(&api, |_| api.post(&format!("{pods}/p/eviction"), &inside)).code, 201);

    assert_eq!(dry(&api, |dry| api.delete(&dry(&one))).ok()["status"], "Success");
    let options: Value = json!({"kind": "DeleteOptions", "apiVersion": "v1", "dryRun": ["All"]});
    let by_body = |path: &str| api.send(&testkit::Ask::new("DELETE", path).json(&options));
    assert_eq!(dry(&api, |_| by_body(&one)).code, 200);
    assert_eq!(names(&dry(&api, |_| by_body(CONFIG_MAPS)).ok()), ["a", "b"]);
    assert_eq!(names(&dry(&api, |dry| api.delete(&dry(CONFIG_MAPS))).ok()), ["a", "b"]);
    assert_eq!(dry(&api, |dry| api.delete(&dry("/api/v1/namespaces/kube-node-lease"))).code, 200);
    assert_eq!(dry(&api, |dry| api.delete(&dry("/api/v1/namespaces/default"))).refusal().1, "Forbidden");
}
