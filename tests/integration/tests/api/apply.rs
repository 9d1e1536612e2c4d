//! Server-side apply: who owns which field, and what that means for others.
use crate::support::{CONFIG_MAPS, quiet};
use serde_json::{Value, json};
use testkit::{Api, Reply};

fn apply(api: &Api, manager: &str, options: &str, data: Value) -> Reply {
    let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data});
    api.patch("apply", &format!("{CONFIG_MAPS}/a?fieldManager={manager}{options}"), &body)
}

fn managers(object: &Value) -> Vec<String> {
    let entries = object["metadata"]["managedFields"].as_array().unwrap();
    entries.iter().map(|e| format!("{} {}", e["manager"].as_str().unwrap(), e["operation"].as_str().unwrap())).collect()
}

#[test]
fn what_others_own_is_not_taken_without_force() {
    let (_server, api) = quiet();
    let created = apply(&api, "one", "", json!({"x": "1", "y": "1"}));
    assert_eq!(created.code, 201);
    let shared = apply(&api, "two", "", json!({"x": "1", "z": "2"})).ok();
    assert_eq!(shared["data"], json!({"x": "1", "y": "1", "z": "2"}));
    assert_eq!(managers(&shared), ["one Apply", "two Apply"]);
    let reply = apply(&api, "two", "", json!({"x": "2", "y": "2"}));
    let (code, reason, message) = reply.refusal();
    assert_eq!((code, reason.as_str()), (409, "Conflict"));
    assert_eq!(message, "Apply failed with 2 conflicts: conflicts with \"one\":\n- .data.x\n- .data.y");
    assert_eq!(
        reply.json()["details"]["causes"],
        json!([
            {"reason": "FieldManagerConflict", "message": "conflict with \"one\"", "field": ".data.x"},
            {"reason": "FieldManagerConflict", "message": "conflict with \"one\"", "field": ".data.y"},
        ])
    );
    assert_eq!(api.get(&format!("{CONFIG_MAPS}/a")).ok(), shared);
    let forced = apply(&api, "two", "&force=true", json!({"x": "2"})).ok();
    assert_eq!(forced["data"], json!({"x": "2", "y": "1"}), "what two no longer asks for and nobody else owns goes");
    // What one no longer asks for goes, but what two has taken stays.
    let last = apply(&api, "one", "", json!({})).ok();
    assert_eq!(last["data"], json!({"x": "2"}));
}

#[test]
fn what_nobody_can_own_is_refused() {
    let (_server, api) = quiet();
    let configuration = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "default"}, "date": {"x": "1"}});
    for validation in ["Ignore", "Warn", "Strict"] {
        let path = format!("{CONFIG_MAPS}/a?fieldManager=one&fieldValidation={validation}");
        let expected = "failed to create typed patch object (default/a; /v1, Kind=ConfigMap): .date: field not declared in schema";
        assert_eq!(api.patch("apply", &path, &configuration).refusal(), (400, "BadRequest".to_owned(), expected.to_owned()), "{validation}");
    }
    assert_eq!(api.get(&format!("{CONFIG_MAPS}/a")).code, 404);
}

#[test]
fn applying_the_same_again_writes_nothing() {
    let (_server, api) = quiet();
    let first = apply(&api, "one", "", json!({"x": "1"})).ok();
    assert_eq!(apply(&api, "one", "", json!({"x": "1"})).ok(), first);
    // An update by hand owns what it changed; an apply of the old value conflicts with it.
    let path = format!("{CONFIG_MAPS}/a?fieldManager=hand");
    let changed = api.patch("merge", &path, &json!({"data": {"x": "2"}})).ok();
    assert_eq!(managers(&changed), ["hand Update"]);
    let (code, _, message) = apply(&api, "one", "", json!({"x": "1"})).refusal();
    assert_eq!(code, 409);
    assert!(message.starts_with("Apply failed with 1 conflict: conflict with \"hand\" using v1"), "{message}");
}

#[test]
fn many_appliers_of_one_object_all_get_through() {
    let (_server, api) = quiet();
    std::thread::scope(|scope| {
        for n in 0..12 {
            let api = &api;
            scope.spawn(move || {
                let reply = apply(api, &format!("m{n}"), "", json!({format!("k{n}"): "v"}));
                assert!(matches!(reply.code, 200 | 201), "{}", reply.text());
            });
        }
    });
    let object = api.get(&format!("{CONFIG_MAPS}/a")).ok();
    assert_eq!((object["data"].as_object().unwrap().len(), managers(&object).len()), (12, 12));
}
