//! Namespaces: what lives in one needs it to be there and to stay.
use crate::support::{CONFIG_MAPS, SOON, config_map, names, quiet};
use serde_json::json;
use testkit::{Server, wait_until};

#[test]
fn nothing_is_made_in_a_namespace_that_is_missing_or_going() {
    let (_server, api) = quiet();
    let maps = "/api/v1/namespaces/team/configmaps";
    assert_eq!(api.post(maps, &config_map("a", &json!({}))).refusal(), (404, "NotFound".into(), "namespaces \"team\" not found".into()));
    let made = api.post("/api/v1/namespaces", &json!({"metadata": {"name": "team"}})).ok();
    assert_eq!((&made["status"]["phase"], &made["spec"]["finalizers"]), (&json!("Active"), &json!(["kubernetes"])));
    assert_eq!(made["metadata"]["labels"]["kubernetes.io/metadata.name"], "team");
    api.post(maps, &config_map("a", &json!({}))).ok();
    let going = api.delete("/api/v1/namespaces/team").ok();
    assert_eq!(going["status"]["phase"], "Terminating");
    let reply = api.post(maps, &config_map("b", &json!({})));
    let (code, reason, message) = reply.refusal();
    assert_eq!((code, reason.as_str()), (403, "Forbidden"));
    assert_eq!(message, "configmaps \"b\" is forbidden: unable to create new content in namespace team because it is being terminated");
    assert_eq!(
        reply.json()["details"]["causes"],
        json!([{"reason": "NamespaceTerminating", "message": "namespace team is being terminated", "field": "metadata.namespace"}])
    );
    // What is there can still be changed and taken away.
    api.patch("merge", &format!("{maps}/a"), &json!({"data": {"k": "v"}})).ok();
    api.delete(&format!("{maps}/a")).ok();
    let mut finalized = api.get("/api/v1/namespaces/team").ok();
    finalized["spec"]["finalizers"] = json!([]);
    api.put("/api/v1/namespaces/team/finalize", &finalized).ok();
    assert_eq!(api.get("/api/v1/namespaces/team").code, 404);
    for name in ["default", "kube-system", "kube-public"] {
        let want = format!("namespaces \"{name}\" is forbidden: this namespace may not be deleted");
        assert_eq!(api.delete(&format!("/api/v1/namespaces/{name}")).refusal(), (403, "Forbidden".into(), want));
    }
}

#[test]
fn a_deleted_namespace_takes_everything_in_it_along() {
    let server = Server::control_plane();
    let api = server.api();
    api.post("/api/v1/namespaces", &json!({"metadata": {"name": "team"}})).ok();
    let inside = |resource: &str| format!("/api/v1/namespaces/team/{resource}");
    for n in 0..5 {
        api.post(&inside("configmaps"), &config_map(&format!("c{n}"), &json!({}))).ok();
        api.post(&inside("services"), &json!({"metadata": {"name": format!("s{n}")}, "spec": {"ports": [{"port": 80}]}})).ok();
    }
    let mut held = config_map("held", &json!({}));
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    api.post(&inside("configmaps"), &held).ok();
    api.delete("/api/v1/namespaces/team").ok();
    wait_until("only what is held is left", SOON, || {
        names(&api.get(&inside("configmaps")).ok()) == ["held"] && names(&api.get(&inside("services")).ok()).is_empty()
    });
    wait_until("the namespace says what keeps it", SOON, || {
        let namespace = api.get("/api/v1/namespaces/team").ok();
        let conditions = namespace["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.iter().any(|c| c["type"] == "NamespaceFinalizersRemaining" && c["status"] == "True")
    });
    api.patch("merge", &inside("configmaps/held"), &json!({"metadata": {"finalizers": null}})).ok();
    wait_until("the namespace is gone", SOON, || api.get("/api/v1/namespaces/team").code == 404);
    // Its Services' addresses are free again: only the API's own is taken.
    let taken = api.get("/apis/networking.k8s.io/v1/ipaddresses").ok();
    assert_eq!(names(&taken), ["10.96.0.1"]);
    assert!(names(&api.get(CONFIG_MAPS).ok()).iter().all(|name| name == "kube-root-ca.crt"));
}

#[test]
fn creating_while_the_namespace_goes_leaves_nothing_behind() {
    let server = Server::control_plane();
    let api = server.api();
    for round in 0..3 {
        let namespace = format!("race{round}");
        api.post("/api/v1/namespaces", &json!({"metadata": {"name": namespace}})).ok();
        let maps = format!("/api/v1/namespaces/{namespace}/configmaps");
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (api, maps) = (&api, &maps);
                scope.spawn(move || {
                    for n in 0.. {
                        let reply = api.post(maps, &config_map(&format!("c{thread}-{n}"), &json!({})));
                        if reply.code != 201 {
                            assert!(matches!(reply.code, 403 | 404), "{}", reply.text());
                            return;
                        }
                    }
                });
            }
            api.delete(&format!("/api/v1/namespaces/{namespace}")).ok();
        });
        wait_until("the namespace is gone", SOON, || api.get(&format!("/api/v1/namespaces/{namespace}")).code == 404);
        assert_eq!(names(&api.get(&maps).ok()), Vec::<String>::new());
    }
}
