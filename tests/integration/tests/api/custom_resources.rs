//! Custom resources: what a definition declares is served as if it were built in.
use crate::support::{SOON, names, quiet};
use serde_json::{Value, json};
use testkit::{Api, wait_until};

pub const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
pub const WIDGETS: &str = "/apis/example.com/v1/namespaces/default/widgets";

/// Widgets, with a bit of everything.
pub fn widgets() -> Value {
    let spec = json!({"type": "object", "required": ["size"], "properties": {
        "size": {"type": "integer", "minimum": 1},
        "color": {"type": "string", "default": "blue", "enum": ["blue", "red"]},
        "replicas": {"type": "integer"},
        "port": {"x-kubernetes-int-or-string": true},
        "note": {"type": "string", "nullable": true},
        "parts": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
            "items": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}, "count": {"type": "integer", "default": 1}}}},
        "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        "template": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true},
    }});
    let status = json!({"type": "object", "properties": {"replicas": {"type": "integer"}, "selector": {"type": "string"}, "phase": {"type": "string"}}});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "widgets", "kind": "Widget", "shortNames": ["wd"], "categories": ["gadgets"]},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "description": "A widget does things.", "properties": {
                    "apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"}, "spec": spec, "status": status}}},
                "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas", "labelSelectorPath": ".status.selector"}},
                "additionalPrinterColumns": [
                    {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
                    {"name": "Color", "type": "string", "jsonPath": ".spec.color", "priority": 1},
                    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
                ],
                "selectableFields": [{"jsonPath": ".spec.color"}, {"jsonPath": ".spec.size"}],
            }],
        },
    })
}

pub fn widget(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name}, "spec": spec})
}

/// Creates a definition and waits until it is established.
pub fn define(api: &Api, definition: &Value) -> Value {
    api.post(DEFINITIONS, definition).ok();
    established(api, definition["metadata"]["name"].as_str().unwrap())
}

pub fn condition(definition: &Value, kind: &str) -> (String, String, String) {
    let found = definition["status"]["conditions"].as_array().into_iter().flatten().find(|c| c["type"] == kind);
    let text = |key: &str| found.map_or(String::new(), |c| c[key].as_str().unwrap_or_default().to_owned());
    (text("status"), text("reason"), text("message"))
}

pub fn established(api: &Api, name: &str) -> Value {
    let path = format!("{DEFINITIONS}/{name}");
    wait_until("the definition is established", SOON, || condition(&api.get(&path).ok(), "Established").0 == "True");
    api.get(&path).ok()
}

#[test]
fn a_definition_makes_a_kind_and_takes_it_along() {
    let (_server, api) = quiet();
    assert_eq!(api.get(WIDGETS).code, 404);
    let created = api.post(DEFINITIONS, &widgets()).ok();
    assert_eq!(created["spec"]["names"]["listKind"], "WidgetList");
    assert_eq!(created["status"]["storedVersions"], json!(["v1"]));
    let ready = established(&api, "widgets.example.com");
    assert_eq!(condition(&ready, "NamesAccepted"), ("True".into(), "NoConflicts".into(), "no conflicts found".into()));
    assert_eq!(condition(&ready, "Established"), ("True".into(), "InitialNamesAccepted".into(), "the initial names have been accepted".into()));
    assert_eq!(
        ready["status"]["acceptedNames"],
        json!({"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList", "shortNames": ["wd"], "categories": ["gadgets"]})
    );
    let version = api.get(WIDGETS).ok()["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let mut watch = api.watch(&format!("{WIDGETS}?watch=1&resourceVersion={version}"));
    let made = api.post(WIDGETS, &widget("a", json!({"size": 1}))).ok();
    assert_eq!((&made["spec"]["color"], &made["metadata"]["generation"]), (&json!("blue"), &json!(1)));
    assert_eq!(api.get(&format!("{WIDGETS}/a")).ok(), made);
    let list = api.get(WIDGETS).ok();
    assert_eq!((&list["kind"], &list["apiVersion"]), (&json!("WidgetList"), &json!("example.com/v1")));
    assert_eq!(names(&list), ["a"]);
    assert_eq!(watch.next_short(), "ADDED a");
    let again = watch_end(&api);
    assert_eq!(api.delete(&format!("{DEFINITIONS}/widgets.example.com")).ok()["metadata"]["name"], "widgets.example.com");
    wait_until("the definition is gone", SOON, || api.get(&format!("{DEFINITIONS}/widgets.example.com")).code == 404);
    assert_eq!(api.get(WIDGETS).code, 404);
    assert_eq!(watch.next_short(), "DELETED a");
    drop(again);
}

/// A watch of all namespaces, which must not hold the deletion up.
fn watch_end(api: &Api) -> testkit::Watch {
    api.watch("/apis/example.com/v1/widgets?watch=1")
}
