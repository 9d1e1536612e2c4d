//! Deletion: what goes at once, what waits and for what, and what is asked before.
use crate::support::{CONFIG_MAPS, config_map, names, pod, quiet};
use serde_json::{Value, json};
use testkit::{Api, Ask};

const PODS: &str = "/api/v1/namespaces/default/pods";

fn delete_with(api: &Api, path: &str, options: Value) -> testkit::Reply {
    api.send(&Ask::new("DELETE", path).json(&options))
}

fn held(name: &str) -> Value {
    let mut object = config_map(name, &json!({}));
    object["metadata"]["finalizers"] = json!(["example.com/hold"]);
    object
}

fn finalizers(object: &Value) -> Vec<&str> {
    object["metadata"]["finalizers"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

#[test]
fn what_nothing_holds_goes_at_once() {
    let (_server, api) = quiet();
    let made = api.post(CONFIG_MAPS, &config_map("a", &json!({}))).ok();
    let status = api.delete(&format!("{CONFIG_MAPS}/a")).ok();
    let details = json!({"name": "a", "kind": "configmaps", "uid": made["metadata"]["uid"]});
    assert_eq!(status, json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}));
    assert_eq!(api.delete(&format!("{CONFIG_MAPS}/a")).refusal(), (404, "NotFound".into(), "configmaps \"a\" not found".into()));
}

#[test]
fn some_kinds_are_shown_once_more_when_they_go() {
    let (_server, api) = quiet();
    let made = api.post(PODS, &pod("p")).ok();
    let gone = api.delete(&format!("{PODS}/p")).ok();
    assert_eq!((&gone["kind"], &gone["metadata"]["uid"]), (&json!("Pod"), &made["metadata"]["uid"]));
}

#[test]
fn finalizers_hold_an_object_until_the_last_is_gone() {
    let (_server, api) = quiet();
    let path = format!("{CONFIG_MAPS}/a");
    let made = api.post(CONFIG_MAPS, &held("a")).ok();
    let reply = api.delete(&path);
    let waiting = reply.ok();
    assert_eq!(reply.code, 200);
    assert!(waiting["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(waiting["metadata"]["deletionGracePeriodSeconds"], 0);
    assert_eq!(api.delete(&path).ok(), waiting, "asking again changes nothing");
    assert_eq!(api.post(CONFIG_MAPS, &config_map("a", &json!({}))).refusal().1, "AlreadyExists");
    // It can still be changed, but not be held longer.
    api.patch("merge", &path, &json!({"data": {"k": "v"}})).ok();
    let (code, _, message) = api.patch("merge", &path, &json!({"metadata": {"finalizers": ["example.com/hold", "example.com/more"]}})).refusal();
    assert_eq!(code, 422);
    assert_eq!(
        message,
        "ConfigMap \"a\" is invalid: metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{\"example.com/more\"}"
    );
    let mut watch = api.watch(&format!("{CONFIG_MAPS}?watch=1&resourceVersion={}", waiting["metadata"]["resourceVersion"].as_str().unwrap()));
    let gone = api.patch("merge", &path, &json!({"metadata": {"finalizers": null}})).ok();
    assert_eq!(gone["metadata"]["uid"], made["metadata"]["uid"]);
    assert_eq!([watch.next_short(), watch.next_short()], ["MODIFIED a", "DELETED a"]);
    assert_eq!(api.get(&path).refusal().0, 404);
}

#[test]
fn the_fate_of_dependants_is_noted_for_those_who_bring_it_about() {
    let (_server, api) = quiet();
    let case = |name: &str, options: Value, want: &[&str], code: u16| {
        let path = format!("{CONFIG_MAPS}/{name}");
        api.post(CONFIG_MAPS, &held(name)).ok();
        let reply = delete_with(&api, &path, options);
        assert_eq!(reply.code, code, "{name}");
        assert_eq!(finalizers(&reply.ok()), want, "{name}");
    };
    case("background", json!({"propagationPolicy": "Background"}), &["example.com/hold"], 200);
    case("foreground", json!({"propagationPolicy": "Foreground"}), &["example.com/hold", "foregroundDeletion"], 200);
    case("orphan", json!({"propagationPolicy": "Orphan"}), &["example.com/hold", "orphan"], 200);
    case("old-orphan", json!({"orphanDependents": true}), &["example.com/hold", "orphan"], 200);
    case("old-background", json!({"orphanDependents": false}), &["example.com/hold"], 202);
    // A later word counts, no word changes nothing.
    let foreground = format!("{CONFIG_MAPS}/foreground");
    assert_eq!(finalizers(&api.delete(&foreground).ok()), ["example.com/hold", "foregroundDeletion"]);
    let orphaned = api.delete(&format!("{foreground}?propagationPolicy=Orphan")).ok();
    assert_eq!(finalizers(&orphaned), ["example.com/hold", "orphan"]);
    let refused = |options: Value| delete_with(&api, &foreground, options).refusal();
    let invalid = |why: &str| (422, "Invalid".to_owned(), format!("DeleteOptions.meta.k8s.io \"\" is invalid: {why}"));
    assert_eq!(
        refused(json!({"propagationPolicy": "Sideways"})),
        invalid("propagationPolicy: Unsupported value: \"Sideways\": supported values: \"Background\", \"Foreground\", \"Orphan\", \"nil\"")
    );
    assert_eq!(
        refused(json!({"propagationPolicy": "Orphan", "orphanDependents": true})),
        invalid("propagationPolicy: Invalid value: \"Orphan\": orphanDependents and deletionPropagation cannot be both set")
    );
    assert_eq!(refused(json!({"kind": "Pod"})).0, 400);
    assert_eq!(refused(json!({"gracePeriodSeconds": "soon"})).0, 400);
    assert_eq!(api.get(&foreground).ok(), orphaned);
}

#[test]
fn preconditions_protect_what_is_not_meant() {
    let (_server, api) = quiet();
    let path = format!("{CONFIG_MAPS}/a");
    let made = api.post(CONFIG_MAPS, &config_map("a", &json!({}))).ok();
    let (uid, version) = (made["metadata"]["uid"].as_str().unwrap(), made["metadata"]["resourceVersion"].as_str().unwrap());
    let refused = |preconditions: Value| delete_with(&api, &path, json!({ "preconditions": preconditions })).refusal();
    let conflict = |why: String| (409, "Conflict".to_owned(), format!("Operation cannot be fulfilled on ConfigMap \"a\": {why}"));
    assert_eq!(
        refused(json!({"uid": "other"})),
        conflict(format!(
            "the UID in the precondition (other) does not match the UID in record ({uid}). The object might have been deleted and then recreated"
        ))
    );
    assert_eq!(
        refused(json!({"uid": uid, "resourceVersion": "1"})),
        conflict(format!(
            "the ResourceVersion in the precondition (1) does not match the ResourceVersion in record ({version}). The object might have been modified"
        ))
    );
    assert_eq!(api.get(&path).ok(), made);
    delete_with(&api, &path, json!({"preconditions": {"uid": uid, "resourceVersion": version}})).ok();
    assert_eq!(api.get(&path).code, 404);
}

#[test]
fn a_running_pod_gets_its_grace_and_a_waiting_one_none() {
    let (_server, api) = quiet();
    api.post(PODS, &pod("waiting")).ok();
    api.delete(&format!("{PODS}/waiting")).ok();
    assert_eq!(api.get(&format!("{PODS}/waiting")).code, 404);
    api.post("/api/v1/nodes", &json!({"metadata": {"name": "n"}})).ok();
    let start = |name: &str| {
        let mut running = pod(name);
        running["spec"]["nodeName"] = "n".into();
        api.post(PODS, &running).ok();
        format!("{PODS}/{name}")
    };
    let seconds = |object: &Value| object["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap();
    let path = start("p");
    let first = api.delete(&path).ok();
    assert_eq!(seconds(&first), 30);
    assert_eq!(seconds(&api.delete(&format!("{path}?gracePeriodSeconds=60")).ok()), 30, "grace is only ever shortened");
    let shorter = api.delete(&format!("{path}?gracePeriodSeconds=5")).ok();
    assert_eq!(seconds(&shorter), 5);
    assert!(shorter["metadata"]["deletionTimestamp"].as_str() < first["metadata"]["deletionTimestamp"].as_str());
    assert_eq!(seconds(&api.delete(&path).ok()), 5);
    api.delete(&format!("{path}?gracePeriodSeconds=0")).ok();
    assert_eq!(api.get(&path).code, 404);
    // Less than none is a second, as upstream has it.
    assert_eq!(seconds(&api.delete(&format!("{}?gracePeriodSeconds=-1", start("q"))).ok()), 1);
}

#[test]
fn a_collection_is_deleted_as_far_as_it_is_selected() {
    let (_server, api) = quiet();
    for name in ["a", "b", "c", "d"] {
        let mut object = if name == "d" { held(name) } else { config_map(name, &json!({})) };
        object["metadata"]["labels"] = json!({"keep": if name == "b" { "yes" } else { "no" }});
        api.post(CONFIG_MAPS, &object).ok();
    }
    let deleted = api.delete(&format!("{CONFIG_MAPS}?labelSelector=keep%3Dno")).ok();
    assert_eq!((deleted["kind"].as_str(), names(&deleted)), (Some("ConfigMapList"), vec!["a".into(), "c".into(), "d".into()]));
    assert_eq!(names(&api.get(CONFIG_MAPS).ok()), ["b", "d"]);
    assert!(api.get(&format!("{CONFIG_MAPS}/d")).ok()["metadata"]["deletionTimestamp"].is_string());
    api.delete(&format!("{CONFIG_MAPS}?fieldSelector=metadata.name%3Db")).ok();
    assert_eq!(names(&api.get(CONFIG_MAPS).ok()), ["d"]);
    assert_eq!(api.delete("/api/v1/configmaps").refusal().0, 405);
}
