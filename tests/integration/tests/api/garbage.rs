//! Dependants: what happens to them when their owner goes, with the collector at work.
use crate::custom_resources::{WIDGETS, define, widget, widgets};
use crate::support::{CONFIG_MAPS, SOON, config_map};
use serde_json::{Value, json};
use testkit::{Api, Server, wait_until};

fn owned(api: &Api, name: &str, owner: &Value, block: bool) {
    let mut object = config_map(name, &json!({}));
    object["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"], "blockOwnerDeletion": block}]);
    api.post(CONFIG_MAPS, &object).ok();
}

fn code(api: &Api, name: &str) -> u16 {
    api.get(&format!("{CONFIG_MAPS}/{name}")).code
}

#[test]
fn dependants_go_along_wait_or_stay_as_asked() {
    let server = Server::control_plane();
    let api = server.api();
    let owner = |name: &str| api.post(CONFIG_MAPS, &config_map(name, &json!({}))).ok();
    let delete = |name: &str, policy: &str| api.delete(&format!("{CONFIG_MAPS}/{name}?propagationPolicy={policy}")).ok();

    let background = owner("background");
    owned(&api, "background-child", &background, false);
    delete("background", "Background");
    assert_eq!(code(&api, "background"), 404);
    wait_until("the dependant is gone too", SOON, || code(&api, "background-child") == 404);

    let foreground = owner("foreground");
    owned(&api, "foreground-child", &foreground, true);
    api.patch("merge", &format!("{CONFIG_MAPS}/foreground-child"), &json!({"metadata": {"finalizers": ["example.com/hold"]}})).ok();
    let waiting = delete("foreground", "Foreground");
    assert_eq!(waiting["metadata"]["finalizers"], json!(["foregroundDeletion"]));
    wait_until("the dependant is being deleted", SOON, || {
        api.get(&format!("{CONFIG_MAPS}/foreground-child")).ok()["metadata"]["deletionTimestamp"].is_string()
    });
    assert_eq!(code(&api, "foreground"), 200, "the owner waits for what blocks it");
    api.patch("merge", &format!("{CONFIG_MAPS}/foreground-child"), &json!({"metadata": {"finalizers": null}})).ok();
    wait_until("the owner follows its dependant", SOON, || code(&api, "foreground") == 404);

    let orphan = owner("orphan");
    owned(&api, "orphan-child", &orphan, true);
    delete("orphan", "Orphan");
    wait_until("the owner is gone", SOON, || code(&api, "orphan") == 404);
    let child = api.get(&format!("{CONFIG_MAPS}/orphan-child")).ok();
    assert!(child["metadata"].get("ownerReferences").is_none() && child["metadata"].get("deletionTimestamp").is_none(), "{child}");

    // An owner that never was.
    owned(&api, "stray", &json!({"metadata": {"name": "none", "uid": "00000000-0000-0000-0000-000000000000"}}), false);
    wait_until("what belongs to nobody is gone", SOON, || code(&api, "stray") == 404);
}

#[test]
fn custom_resources_own_are_owned_counted_and_go_with_their_namespace() {
    let server = Server::control_plane();
    let api = server.api();
    define(&api, &widgets());
    let owner = api.post(WIDGETS, &widget("owner", json!({"size": 1}))).ok();
    let mut child = config_map("child", &json!({}));
    child["metadata"]["ownerReferences"] = json!([{"apiVersion": "example.com/v1", "kind": "Widget", "name": "owner", "uid": owner["metadata"]["uid"]}]);
    api.post(CONFIG_MAPS, &child).ok();
    let mut part = widget("part", json!({"size": 1}));
    part["metadata"]["ownerReferences"] = child["metadata"]["ownerReferences"].clone();
    api.post(WIDGETS, &part).ok();
    api.delete(&format!("{WIDGETS}/owner?propagationPolicy=Background")).ok();
    wait_until("what the widget owned is gone", SOON, || code(&api, "child") == 404);
    wait_until("the widget's widget is gone too", SOON, || api.get(&format!("{WIDGETS}/part")).code == 404);

    api.post("/api/v1/namespaces", &json!({"metadata": {"name": "n"}})).ok();
    let quotas = "/api/v1/namespaces/n/resourcequotas";
    api.post(quotas, &json!({"metadata": {"name": "q"}, "spec": {"hard": {"count/widgets.example.com": "1"}}})).ok();
    let path = "/apis/example.com/v1/namespaces/n/widgets";
    wait_until("the quota is looked at", SOON, || api.get(&format!("{quotas}/q")).ok()["status"]["hard"]["count/widgets.example.com"] == "1");
    api.post(path, &widget("one", json!({"size": 1}))).ok();
    let (status, _, message) = api.post(path, &widget("two", json!({"size": 1}))).refusal();
    assert_eq!(status, 403);
    assert!(
        message.contains("exceeded quota: q, requested: count/widgets.example.com=1, used: count/widgets.example.com=1, limited: count/widgets.example.com=1"),
        "{message}"
    );
    api.delete("/api/v1/namespaces/n").ok();
    wait_until("the namespace is gone, widgets and all", SOON, || api.get("/api/v1/namespaces/n").code == 404);
    assert_eq!(api.get(&format!("{path}/one")).code, 404);
}
