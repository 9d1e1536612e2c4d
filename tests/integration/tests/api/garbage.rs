//! Dependants: what happens to them when their owner goes, with the collector at work.
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
