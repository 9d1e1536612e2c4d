//! Versions: one stored object, served in each of its kind's forms.
use crate::custom_resources::{DEFINITIONS, condition, define, widget, widgets};
use crate::hook::Hook;
use crate::support::{SOON, names, quiet};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use testkit::{Server, wait_until};

const EVENTS: &str = "/api/v1/namespaces/default/events";
const NEW_EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/default/events";

#[test]
fn an_event_is_one_in_both_groups() {
    let (server, api) = quiet();
    let mut watch = api.watch(&format!("{NEW_EVENTS}?watch=1&fieldSelector=regarding.name%3Dp"));
    let reference = json!({"kind": "Pod", "namespace": "default", "name": "p", "apiVersion": "v1"});
    let made = api
        .post(EVENTS, &json!({"metadata": {"name": "e"}, "involvedObject": reference, "message": "hello", "reason": "Why", "type": "Normal", "count": 3, "source": {"component": "me"}}))
        .ok();
    assert_eq!((&made["apiVersion"], &made["message"]), (&json!("v1"), &json!("hello")));
    let seen = api.get(&format!("{NEW_EVENTS}/e")).ok();
    assert_eq!((&seen["apiVersion"], &seen["note"], &seen["deprecatedCount"]), (&json!("events.k8s.io/v1"), &json!("hello"), &json!(3)));
    assert_eq!((&seen["regarding"], &seen["metadata"]["uid"]), (&reference, &made["metadata"]["uid"]));
    assert!(seen.get("message").is_none() && seen.get("involvedObject").is_none());
    assert_eq!(watch.next_event().1["note"], "hello");
    let list = api.get(&format!("{NEW_EVENTS}?fieldSelector=regarding.kind%3DPod")).ok();
    assert_eq!((&list["apiVersion"], names(&list)), (&json!("events.k8s.io/v1"), vec!["e".to_owned()]));
    assert!(names(&api.get(&format!("{NEW_EVENTS}?fieldSelector=regarding.kind%3DNode")).ok()).is_empty());

    let new = json!({"metadata": {"name": "n"}, "eventTime": "2026-01-01T00:00:00.000000Z", "regarding": reference, "note": "new", "reason": "R", "type": "Warning",
        "action": "Act", "reportingController": "example.com/c", "reportingInstance": "c-1"});
    let made = api.post(NEW_EVENTS, &new).ok();
    assert_eq!((&made["apiVersion"], &made["reportingController"]), (&json!("events.k8s.io/v1"), &json!("example.com/c")));
    let old = api.get(&format!("{EVENTS}/n")).ok();
    assert_eq!((&old["message"], &old["reportingComponent"], &old["apiVersion"]), (&json!("new"), &json!("example.com/c"), &json!("v1")));
    let mut wrong = new.clone();
    wrong["metadata"]["name"] = "x".into();
    wrong["action"] = Value::Null;
    let (code, _, message) = api.post(NEW_EVENTS, &wrong).refusal();
    assert_eq!((code, message.as_str()), (422, "Event.events.k8s.io \"x\" is invalid: action: Required value"));
    let printed = server.tool().k("get events.events.k8s.io").ok();
    assert!(printed.lines().next().unwrap().starts_with("LAST SEEN"), "{printed}");
    assert!(printed.contains("pod/p") && printed.contains("hello"), "{printed}");
    api.delete(&format!("{NEW_EVENTS}/e")).ok();
    assert_eq!(api.get(&format!("{EVENTS}/e")).code, 404);
    let groups = api.get("/apis").ok();
    assert!(groups["groups"].as_array().unwrap().iter().any(|group| group["name"] == "events.k8s.io"));
}

#[test]
fn an_autoscaler_of_v1_is_a_view_of_v2() {
    let (server, api) = quiet();
    let at = |version: &str| format!("/apis/autoscaling/{version}/namespaces/default/horizontalpodautoscalers");
    let target = json!({"kind": "Deployment", "name": "web", "apiVersion": "apps/v1"});
    let made = api.post(&at("v1"), &json!({"metadata": {"name": "h"}, "spec": {"maxReplicas": 5, "scaleTargetRef": target}})).ok();
    assert_eq!((&made["apiVersion"], &made["spec"]["targetCPUUtilizationPercentage"]), (&json!("autoscaling/v1"), &json!(80)));
    let stored = api.get(&format!("{}/h", at("v2"))).ok();
    assert_eq!(
        stored["spec"]["metrics"],
        json!([{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}])
    );
    let memory = json!({"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "1Gi"}}});
    let changed = api.patch("json", &format!("{}/h", at("v2")), &json!([{"op": "add", "path": "/spec/metrics/0", "value": memory}])).ok();
    let view = api.get(&format!("{}/h", at("v1"))).ok();
    let annotations = view["metadata"]["annotations"].as_object().unwrap();
    let kept: Value = serde_json::from_str(annotations["autoscaling.alpha.kubernetes.io/metrics"].as_str().unwrap()).unwrap();
    assert_eq!(kept, json!([{"type": "Resource", "resource": {"name": "memory", "targetAverageValue": "1Gi"}}]));
    assert_eq!(view["metadata"]["resourceVersion"], changed["metadata"]["resourceVersion"]);
    // What goes through v1 loses nothing, and what changes nothing writes nothing.
    assert_eq!(api.put(&format!("{}/h", at("v1")), &view).ok()["metadata"]["resourceVersion"], changed["metadata"]["resourceVersion"]);
    api.patch("merge", &format!("{}/h", at("v1")), &json!({"spec": {"maxReplicas": 7}})).ok();
    let stored = api.get(&format!("{}/h", at("v2"))).ok();
    assert_eq!((&stored["spec"]["maxReplicas"], stored["spec"]["metrics"].as_array().unwrap().len()), (&json!(7), 2));
    assert!(stored["metadata"].get("annotations").is_none());
    let (code, _, message) = api.patch("merge", &format!("{}/h", at("v1")), &json!({"spec": {"maxReplicas": 0}})).refusal();
    assert_eq!(code, 422);
    assert!(message.contains("spec.maxReplicas: Invalid value: 0: must be greater than 0"), "{message}");
    let printed = server.tool().k("get horizontalpodautoscalers.v1.autoscaling").ok();
    assert!(printed.contains("Deployment/web") && printed.contains("cpu: <unknown>/80%"), "{printed}");
    let mut watch = api.watch(&format!("{}?watch=1", at("v1")));
    assert_eq!(watch.next_event().1["apiVersion"], "autoscaling/v1");
    assert_eq!(api.delete(&format!("{}/h", at("v1"))).code, 200);
    assert_eq!(watch.next_event().1["apiVersion"], "autoscaling/v1");
}

/// Widgets in two versions that differ in what they know.
fn two_versions() -> Value {
    let mut definition = widgets();
    let mut second = definition["spec"]["versions"][0].clone();
    second["name"] = "v2".into();
    second["storage"] = false.into();
    second["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["extra"] = json!({"type": "string"});
    definition["spec"]["versions"].as_array_mut().unwrap().push(second);
    definition
}

const V1: &str = "/apis/example.com/v1/namespaces/default/widgets";
const V2: &str = "/apis/example.com/v2/namespaces/default/widgets";

#[test]
fn versions_without_a_conversion_differ_in_name_and_in_what_they_know() {
    let (_server, api) = quiet();
    define(&api, &two_versions());
    api.post(V1, &widget("a", json!({"size": 1}))).ok();
    let mut newer = widget("b", json!({"size": 2, "extra": "e"}));
    newer["apiVersion"] = "example.com/v2".into();
    let made = api.post(V2, &newer).ok();
    // Stored as v1, which does not know the field.
    assert_eq!((&made["apiVersion"], made["spec"].get("extra")), (&json!("example.com/v2"), None));
    let list = api.get(V2).ok();
    assert_eq!(names(&list), ["a", "b"]);
    assert!(list["items"].as_array().unwrap().iter().all(|item| item["apiVersion"] == "example.com/v2"));
    // The storage version changes; what is stored stays as it is until it is written.
    let path = format!("{DEFINITIONS}/widgets.example.com");
    let mut definition = api.get(&path).ok();
    definition["spec"]["versions"][0]["storage"] = false.into();
    definition["spec"]["versions"][1]["storage"] = true.into();
    let changed = api.put(&path, &definition).ok();
    assert_eq!(changed["status"]["storedVersions"], json!(["v1", "v2"]));
    let before = api.get(&format!("{V1}/a")).ok();
    let touched = api.put(&format!("{V1}/a"), &before).ok();
    assert_ne!(touched["metadata"]["resourceVersion"], before["metadata"]["resourceVersion"], "the object is stored in the new version");
    assert_eq!(api.put(&format!("{V1}/a"), &touched).ok()["metadata"]["resourceVersion"], touched["metadata"]["resourceVersion"]);
    let made = api.patch("merge", &format!("{V2}/a"), &json!({"spec": {"extra": "kept"}})).ok();
    assert_eq!(made["spec"]["extra"], "kept");
    assert!(api.get(&format!("{V1}/a")).ok()["spec"].get("extra").is_none());
    let mut watch = api.watch(&format!("{V1}?watch=1"));
    assert_eq!(watch.next_event().1["apiVersion"], "example.com/v1");
    // A version that objects are stored in can't go.
    let mut definition = api.get(&path).ok();
    definition["spec"]["versions"].as_array_mut().unwrap().remove(0);
    let (code, _, message) = api.put(&path, &definition).refusal();
    assert_eq!(code, 422);
    assert!(message.contains("status.storedVersions[0]: Invalid value: \"v1\": missing from spec.versions"), "{message}");
    // One that is no longer served is not found, and its objects are still there.
    let mut definition = api.get(&path).ok();
    definition["spec"]["versions"][0]["served"] = false.into();
    let kept = api.put(&path, &definition).ok();
    assert_eq!(condition(&kept, "Established").0, "True");
    assert_eq!(api.get(V1).code, 404);
    assert_eq!(names(&api.get(V2).ok()), ["a", "b"]);
}

#[test]
fn a_migration_stores_everything_in_the_newest_version_alone() {
    const MIGRATIONS: &str = "/apis/storagemigration.k8s.io/v1/storageversionmigrations";
    let server = Server::control_plane();
    let api = server.api();
    let migration = |name: &str, group: &str, resource: &str| json!({"metadata": {"name": name}, "spec": {"resource": {"group": group, "resource": resource}}});
    let ended = |name: &str| {
        let told = |kind: &str| condition(&api.get(&format!("{MIGRATIONS}/{name}")).ok(), kind);
        wait_until("a migration ends", SOON, || told("Running").0 == "False");
        assert_eq!(told("Succeeded"), ("True".into(), "StorageVersionMigrationSucceeded".into(), String::new()));
        assert_eq!(told("Running").1, "MigrationCompleted");
    };
    define(&api, &two_versions());
    api.post_all(V1, (0..600).map(|n| widget(&format!("w{n}"), json!({"size": 1}))));
    let path = format!("{DEFINITIONS}/widgets.example.com");
    let mut definition = api.get(&path).ok();
    definition["spec"]["versions"][0]["storage"] = false.into();
    definition["spec"]["versions"][1]["storage"] = true.into();
    api.put(&path, &definition).ok();
    let newer = api.post(V1, &widget("newer", json!({"size": 1}))).ok();
    let before = api.get(&format!("{V1}/w1")).ok();
    api.post(MIGRATIONS, &migration("widgets", "example.com", "widgets")).ok();
    ended("widgets");
    let after = api.get(&format!("{V1}/w1")).ok();
    assert_ne!(after["metadata"]["resourceVersion"], before["metadata"]["resourceVersion"], "it is stored anew");
    assert_eq!((&after["spec"], &after["metadata"]["managedFields"]), (&before["spec"], &before["metadata"]["managedFields"]), "and else as it was");
    assert_eq!(api.get(&format!("{V1}/newer")).ok()["metadata"]["resourceVersion"], newer["metadata"]["resourceVersion"], "what is new needs nothing");
    let mut definition = api.get(&path).ok();
    assert_eq!(definition["status"]["storedVersions"], json!(["v2"]));
    let said = condition(&definition, "StorageMigrating");
    assert_eq!(said, ("False".into(), "MigrationSucceeded".into(), "The migration has succeeded and the stored versions have been updated".into()));
    // Now the old version may go.
    definition["spec"]["versions"].as_array_mut().unwrap().remove(0);
    api.put(&path, &definition).ok();
    assert_eq!(names(&api.get(V2).ok()).len(), 601);

    // Built-in kinds are migrated, too; what nobody serves is waited for, as its definition may be on its way.
    api.post(MIGRATIONS, &migration("secrets", "", "secrets")).ok();
    ended("secrets");
    api.post(MIGRATIONS, &migration("gadgets", "example.com", "gadgets")).ok();
    wait_until("it has its turn", SOON, || condition(&api.get(&format!("{MIGRATIONS}/gadgets")).ok(), "Running").0 == "True");
    let mut gadgets = widgets();
    gadgets["metadata"]["name"] = "gadgets.example.com".into();
    gadgets["spec"]["names"] = json!({"plural": "gadgets", "kind": "Gadget"});
    define(&api, &gadgets);
    ended("gadgets");
    let printed = server.tool().k("get storageversionmigrations").ok();
    assert!(printed.contains("gadgets") && printed.contains("secrets"), "{printed}");
}

/// What the converter of these widgets does: `spec.size` of v1 is `spec.weight` of v2. How it misbehaves hangs on the object's name.
fn convert(review: &Value) -> (u16, Vec<u8>) {
    let request = &review["request"];
    let to = request["desiredAPIVersion"].as_str().unwrap();
    let converted: Vec<Value> = request["objects"]
        .as_array()
        .unwrap()
        .iter()
        .map(|object| {
            let mut object = object.clone();
            let (from_field, to_field) = if to.ends_with("v2") { ("size", "weight") } else { ("weight", "size") };
            object["apiVersion"] = to.into();
            let spec = object["spec"].as_object_mut().unwrap();
            if let Some(value) = spec.remove(from_field) {
                spec.insert(to_field.into(), value);
            }
            object["metadata"]["labels"]["converted"] = "yes".into();
            object["metadata"]["generation"] = 99.into();
            match object["metadata"]["name"].as_str().unwrap() {
                "renamed" => object["metadata"]["name"] = "other".into(),
                "unlabelled" => object["metadata"]["labels"] = json!({"bad key!": "x"}),
                _ => {}
            }
            object
        })
        .collect();
    let refused = request["objects"].as_array().unwrap().iter().any(|object| object["metadata"]["name"] == "refused");
    let result = if refused { json!({"status": "Failure", "message": "I would rather not"}) } else { json!({"status": "Success"}) };
    let answer = json!({"kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1", "response": {"uid": request["uid"], "result": result, "convertedObjects": converted}});
    (200, answer.to_string().into_bytes())
}

#[test]
fn a_webhook_converts_and_is_believed_only_so_far() {
    let (_server, api) = quiet();
    let hook = Hook::start(|_, review| convert(review));
    let mut definition = two_versions();
    let spec = &mut definition["spec"]["versions"][1]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    spec["required"] = json!(["weight"]);
    spec["properties"]["weight"] = json!({"type": "integer"});
    spec["properties"].as_object_mut().unwrap().remove("size");
    definition["spec"]["versions"][1]["selectableFields"] = json!([{"jsonPath": ".spec.weight"}]);
    definition["spec"]["versions"][1]["additionalPrinterColumns"] = json!([{"name": "Weight", "type": "integer", "jsonPath": ".spec.weight"}]);
    definition["spec"]["conversion"] = json!({"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1"],
        "clientConfig": {"url": hook.url("convert"), "caBundle": STANDARD.encode(&hook.ca_pem)}}});
    define(&api, &definition);
    api.post(V1, &widget("a", json!({"size": 3}))).ok();
    assert!(hook.asked().is_empty(), "what is stored as it is served is nobody's business");
    let seen = api.get(&format!("{V2}/a")).ok();
    assert_eq!((&seen["apiVersion"], &seen["spec"]["weight"], seen["spec"].get("size")), (&json!("example.com/v2"), &json!(3), None));
    assert_eq!((&seen["metadata"]["labels"]["converted"], &seen["metadata"]["generation"]), (&json!("yes"), &json!(1)));
    let mut watch = api.watch(&format!("{V2}?watch=1"));
    assert_eq!(watch.next_event().1["spec"]["weight"], 3);
    let made = api.post(V2, &json!({"apiVersion": "example.com/v2", "kind": "Widget", "metadata": {"name": "b"}, "spec": {"weight": 5}})).ok();
    assert_eq!((&made["apiVersion"], &made["spec"]["weight"]), (&json!("example.com/v2"), &json!(5)));
    assert_eq!(api.get(&format!("{V1}/b")).ok()["spec"]["size"], 5, "it is stored in the other version");
    assert_eq!(watch.next_event().1["spec"]["weight"], 5);
    let patched = api.patch("merge", &format!("{V2}/b"), &json!({"spec": {"weight": 6}})).ok();
    assert_eq!((&patched["spec"]["weight"], &patched["metadata"]["generation"]), (&json!(6), &json!(2)));
    assert_eq!(watch.next_event().1["spec"]["weight"], 6);
    drop(watch);
    let before = hook.asked().len();
    let list = api.get(V2).ok();
    assert_eq!((names(&list), hook.asked().len() - before), (vec!["a".to_owned(), "b".to_owned()], 1), "a list is converted by one request");
    assert_eq!(names(&api.get(&format!("{V2}?fieldSelector=spec.weight%3D6")).ok()), ["b"]);
    let applied = api
        .patch("apply", &format!("{V2}/b?fieldManager=two&force=true"), &json!({"apiVersion": "example.com/v2", "kind": "Widget", "spec": {"weight": 8}}))
        .ok();
    assert_eq!(applied["spec"]["weight"], 8);
    assert_eq!(api.get(&format!("{V1}/b")).ok()["spec"]["size"], 8);

    for (name, want) in [
        ("renamed", "conversion webhook for example.com/v1, Kind=Widget returned invalid object: must have the same name: renamed != other"),
        ("refused", "conversion webhook for example.com/v1, Kind=Widget failed: I would rather not"),
    ] {
        api.post(V1, &widget(name, json!({"size": 1}))).ok();
        let (code, _, message) = api.get(&format!("{V2}/{name}")).refusal();
        assert_eq!((code, message.as_str()), (500, want));
    }
    api.post(V1, &widget("unlabelled", json!({"size": 1}))).ok();
    let (code, _, message) = api.get(&format!("{V2}/unlabelled")).refusal();
    assert_eq!(code, 500);
    assert!(
        message.starts_with("conversion webhook for example.com/v1, Kind=Widget returned invalid metadata: metadata.labels: Invalid value: \"bad key!\""),
        "{message}"
    );
    // Nobody there: told, and the stored version is served on.
    let path = format!("{DEFINITIONS}/widgets.example.com");
    let mut definition = api.get(&path).ok();
    definition["spec"]["conversion"]["webhook"]["clientConfig"]["url"] = "https://127.0.0.1:1/convert".into();
    api.put(&path, &definition).ok();
    let (code, _, message) = api.get(&format!("{V2}/a")).refusal();
    assert_eq!(
        (code, message.as_str()),
        (
            500,
            "conversion webhook for example.com/v1, Kind=Widget failed: Post \"https://127.0.0.1:1/convert?timeout=30s\": dial tcp 127.0.0.1:1: connect: connection refused"
        )
    );
    assert_eq!(api.get(&format!("{V1}/a")).code, 200);
}
