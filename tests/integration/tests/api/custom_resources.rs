//! Custom resources: what a definition declares is served as if it were built in.
use crate::support::{SOON, names, quiet};
use serde_json::{Value, json};
use testkit::{Api, Ask, wait_until};

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

fn applied(tool: &testkit::Tool, object: &Value) -> String {
    tool.kubectl_with("apply -f -", &object.to_string()).ok()
}

#[test]
fn kubectl_applies_waits_prints_and_explains() {
    let (server, api) = quiet();
    let kubectl = server.tool();
    assert_eq!(applied(&kubectl, &widgets()), "customresourcedefinition.apiextensions.k8s.io/widgets.example.com created\n");
    kubectl.k("wait --for=condition=Established crd/widgets.example.com --timeout=30s").ok();
    assert_eq!(applied(&kubectl, &widget("a", json!({"size": 3}))), "widget.example.com/a created\n");
    assert_eq!(applied(&kubectl, &widget("a", json!({"size": 4, "parts": [{"name": "x", "count": 1}]}))), "widget.example.com/a configured\n");
    assert_eq!(applied(&kubectl, &widget("a", json!({"size": 4, "parts": [{"name": "x", "count": 1}]}))), "widget.example.com/a unchanged\n");
    assert_eq!(api.get(&format!("{WIDGETS}/a")).ok()["spec"], json!({"size": 4, "color": "blue", "parts": [{"name": "x", "count": 1}]}));
    let words = |line: &str| -> Vec<Vec<String>> { kubectl.k(line).ok().lines().map(|l| l.split_whitespace().map(str::to_owned).collect()).collect() };
    let narrow = words("get wd");
    assert_eq!(narrow[0], ["NAME", "SIZE", "AGE"]);
    assert_eq!(narrow[1][..2], ["a", "4"]);
    assert_eq!(words("get widgets -o wide")[0], ["NAME", "SIZE", "COLOR", "AGE"]);
    assert_eq!(words("get gadgets")[1][0], "a");
    let crds = words("get crds");
    assert_eq!((crds[0].join(" "), &*crds[1][0]), ("NAME CREATED AT".to_owned(), "widgets.example.com"));
    let explained = kubectl.k("explain widget.spec.parts").ok();
    assert!(explained.contains("GROUP:      example.com") && explained.contains("count\t<integer>"), "{explained}");
    assert!(kubectl.k("explain widgets").ok().contains("A widget does things."));
    let refused = kubectl.kubectl_with("apply -f -", &widget("b", json!({"size": 1, "sise": 2})).to_string()).err();
    assert!(refused.contains("unknown field \"spec.sise\""), "{refused}");
    kubectl.k("scale widget a --replicas=5").ok();
    assert_eq!(api.get(&format!("{WIDGETS}/a")).ok()["spec"]["replicas"], 5);
    kubectl.kubectl_with("apply --server-side --force-conflicts -f -", &widget("a", json!({"size": 9})).to_string()).ok();
    assert_eq!(api.get(&format!("{WIDGETS}/a")).ok()["spec"]["size"], 9);
    kubectl.k("label widget a tier=one").ok();
    assert_eq!(words("get widgets -l tier=one --no-headers")[0][0], "a");
    let patched = kubectl.kubectl(["patch", "widget", "a", "--type=merge", "-p", r#"{"spec":{"color":"red"}}"#]).ok();
    assert!(patched.contains("patched"), "{patched}");
    assert!(kubectl.kubectl(["patch", "widget", "a", "-p", "{}"]).err().contains("application/strategic-merge-patch+json is not supported"));
    assert_eq!(words("get widgets --field-selector spec.color=red --no-headers")[0][0], "a");
    kubectl.k("delete crd widgets.example.com --timeout=30s").ok();
    kubectl.k("get widgets").err();
}

#[test]
fn objects_are_pruned_defaulted_and_held_to_their_schema() {
    let (_server, api) = quiet();
    define(&api, &widgets());
    let spec = json!({"size": 1, "unknown": 1, "note": null, "port": "http", "any": {"free": {"a": 1}}, "template": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "t", "bad": 1}, "spec": {}},
        "parts": [{"name": "x", "other": 1}], "color": null});
    let reply = api.post(WIDGETS, &widget("a", spec));
    assert_eq!(
        reply.warnings(),
        [
            "299 - \"unknown field \\\"spec.parts[0].other\\\"\"",
            "299 - \"unknown field \\\"spec.template.metadata.bad\\\"\"",
            "299 - \"unknown field \\\"spec.unknown\\\"\""
        ]
    );
    let made = reply.ok();
    assert_eq!(
        made["spec"],
        json!({"size": 1, "note": null, "port": "http", "any": {"free": {"a": 1}}, "template": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "t"}, "spec": {}},
            "parts": [{"name": "x", "count": 1}], "color": "blue"})
    );
    let (code, reason, message) = api.post(&format!("{WIDGETS}?fieldValidation=Strict"), &widget("s", json!({"size": 1, "unknown": 1}))).refusal();
    assert_eq!((code, reason.as_str()), (400, "BadRequest"));
    assert_eq!(message, "Widget in version \"v1\" cannot be handled as a Widget: strict decoding error: unknown field \"spec.unknown\"");
    let refuse = |name: &str, spec: Value, want: &str| {
        let (code, reason, message) = api.post(WIDGETS, &widget(name, spec)).refusal();
        assert_eq!((code, reason.as_str(), message.as_str()), (422, "Invalid", format!("Widget.example.com {name:?} is invalid: {want}").as_str()));
    };
    refuse("b", json!({}), "spec.size: Required value");
    refuse("b", json!({"size": "x"}), r#"spec.size: Invalid value: "string": spec.size in body must be of type integer: "string""#);
    refuse("b", json!({"size": 0}), "spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1");
    refuse("b", json!({"size": 1, "color": "green"}), r#"spec.color: Unsupported value: "green": supported values: "blue", "red""#);
    refuse("b", json!({"size": 1, "tags": ["a", "a"]}), r#"spec.tags[1]: Duplicate value: "a""#);
    refuse("b", json!({"size": 1, "parts": [{"name": "x"}, {"name": "x"}]}), r#"spec.parts[1]: Duplicate value: {"name":"x"}"#);
    refuse("b", json!({"size": 1, "replicas": -1}), ".spec.replicas: Invalid value: -1: should be a non-negative integer");
    refuse("b", json!({"size": 1, "template": {"kind": "Pod"}}), "spec.template.apiVersion: Required value: must not be empty");
    let status = api.post(WIDGETS, &widget("b", json!({}))).json();
    assert_eq!(
        status["details"],
        json!({"name": "b", "group": "example.com", "kind": "Widget", "causes": [{"reason": "FieldValueRequired", "message": "Required value", "field": "spec.size"}]})
    );
    assert!(api.get(&format!("{WIDGETS}/b")).code == 404);

    // A schema that becomes stricter does not stand in the way of who leaves things as they are.
    let path = format!("{DEFINITIONS}/widgets.example.com");
    let mut definition = api.get(&path).ok();
    let properties = &mut definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
    properties["size"]["minimum"] = 5.into();
    properties["late"] = json!({"type": "string", "default": "here"});
    properties.as_object_mut().unwrap().remove("port");
    api.put(&path, &definition).ok();
    let seen = api.get(&format!("{WIDGETS}/a")).ok();
    assert_eq!((&seen["spec"]["late"], seen["spec"].get("port")), (&json!("here"), None), "what is read follows the schema");
    assert_eq!(api.get(WIDGETS).ok()["items"][0]["spec"]["late"], "here");
    let labelled = api.patch("merge", &format!("{WIDGETS}/a"), &json!({"metadata": {"labels": {"a": "b"}}})).ok();
    assert_eq!(labelled["spec"]["size"], 1);
    let (code, _, message) = api.patch("merge", &format!("{WIDGETS}/a"), &json!({"spec": {"size": 2}})).refusal();
    assert_eq!((code, message.contains("spec.size: Invalid value: 2: spec.size in body should be greater than or equal to 5")), (422, true), "{message}");
}

#[test]
fn a_schema_may_bring_the_first_status() {
    let (_server, api) = quiet();
    let mut definition = widgets();
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]["default"] = json!({"phase": "Pending"});
    define(&api, &definition);
    let mut asked = widget("a", json!({"size": 1}));
    asked["status"] = json!({"phase": "Mine"});
    assert_eq!(api.post(WIDGETS, &asked).ok()["status"], json!({"phase": "Pending"}));
    assert_eq!(api.get(&format!("{WIDGETS}/a")).ok()["status"], json!({"phase": "Pending"}));
}

#[test]
fn status_and_scale_are_written_apart() {
    let (_server, api) = quiet();
    define(&api, &widgets());
    let made = api.post(WIDGETS, &json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "a"}, "spec": {"size": 1, "replicas": 2}, "status": {"phase": "no"}})).ok();
    assert!(made.get("status").is_none());
    let path = format!("{WIDGETS}/a");
    let mut next = made.clone();
    next["spec"]["size"] = 7.into();
    next["metadata"]["labels"] = json!({"a": "b"});
    next["status"] = json!({"phase": "up", "replicas": 2, "selector": "app=a", "more": 1});
    let told = api.put(&format!("{path}/status"), &next).ok();
    assert_eq!((&told["spec"]["size"], &told["status"]), (&json!(1), &json!({"phase": "up", "replicas": 2, "selector": "app=a"})));
    assert!(told["metadata"].get("labels").is_none(), "a custom resource's status path writes nothing but the status");
    assert_eq!(told["metadata"]["generation"], 1);
    let scale = api.get(&format!("{path}/scale")).ok();
    assert_eq!((&scale["spec"], &scale["status"]), (&json!({"replicas": 2}), &json!({"replicas": 2, "selector": "app=a"})));
    let scaled = api.patch("merge", &format!("{path}/scale"), &json!({"spec": {"replicas": 4}})).ok();
    assert_eq!(scaled["spec"]["replicas"], 4);
    let after = api.get(&path).ok();
    assert_eq!((&after["spec"]["replicas"], &after["metadata"]["generation"], &after["status"]["phase"]), (&json!(4), &json!(2), &json!("up")));
    let (code, _, message) = api.put(&path, &widget("a", json!({"size": 2}))).refusal();
    assert_eq!((code, message.contains("metadata.resourceVersion: Invalid value: 0: must be specified for an update")), (422, true), "{message}");
    let dry = api.patch("merge", &format!("{path}?dryRun=All"), &json!({"spec": {"size": 3}})).ok();
    assert_eq!((&dry["spec"]["size"], &api.get(&path).ok()["spec"]["size"]), (&json!(3), &json!(1)));
    let table = api.send(&Ask::new("GET", WIDGETS).header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")).ok();
    let columns: Vec<&str> = table["columnDefinitions"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!((columns, &table["rows"][0]["cells"][1]), (vec!["Name", "Size", "Color", "Age"], &json!(1)));
    let partial = api.send(&Ask::new("GET", &path).header("accept", "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io")).ok();
    assert_eq!((&partial["kind"], partial.get("spec")), (&json!("PartialObjectMetadata"), None));
}

#[test]
fn appliers_own_items_of_a_map_list_apart() {
    let (_server, api) = quiet();
    define(&api, &widgets());
    let apply = |manager: &str, parts: Value| {
        let mut object = widget("a", json!({"size": 1, "parts": parts}));
        object["spec"].as_object_mut().unwrap().retain(|key, _| key == "parts" || manager == "one");
        api.patch("apply", &format!("{WIDGETS}/a?fieldManager={manager}"), &object)
    };
    assert_eq!(apply("one", json!([{"name": "x", "count": 1}])).code, 201);
    let both = apply("two", json!([{"name": "y", "count": 2}])).ok();
    assert_eq!(both["spec"]["parts"], json!([{"name": "x", "count": 1}, {"name": "y", "count": 2}]));
    let (code, reason, message) = apply("two", json!([{"name": "x", "count": 3}])).refusal();
    assert_eq!((code, reason.as_str()), (409, "Conflict"));
    assert_eq!(message, "Apply failed with 1 conflict: conflict with \"one\": .spec.parts[name=\"x\"].count");
    let less = apply("two", json!([])).ok();
    assert_eq!(less["spec"]["parts"], json!([{"name": "x", "count": 1}]));
}

#[test]
fn fields_that_are_declared_are_selected_by() {
    let (_server, api) = quiet();
    define(&api, &widgets());
    for (name, color, size) in [("a", "red", 1), ("b", "blue", 1), ("c", "red", 2)] {
        api.post(WIDGETS, &widget(name, json!({"size": size, "color": color}))).ok();
    }
    let select = |selector: &str| names(&api.get(&format!("{WIDGETS}?fieldSelector={selector}")).ok());
    assert_eq!(select("spec.color%3Dred"), ["a", "c"]);
    assert_eq!(select("spec.color%3Dred,spec.size%3D2"), ["c"]);
    assert_eq!(select("spec.color!%3Dred"), ["b"]);
    let (code, _, message) = api.get(&format!("{WIDGETS}?fieldSelector=spec.note%3Dx")).refusal();
    assert_eq!((code, message.as_str()), (400, "field label not supported: spec.note"));
    // What can be selected by can change later, also of what is there already.
    let path = format!("{DEFINITIONS}/widgets.example.com");
    let mut definition = api.get(&path).ok();
    definition["spec"]["versions"][0]["selectableFields"] = json!([{"jsonPath": ".spec.replicas"}]);
    api.put(&path, &definition).ok();
    assert_eq!(select("spec.replicas%3D"), ["a", "b", "c"]);
    assert_eq!(api.get(&format!("{WIDGETS}?fieldSelector=spec.color%3Dred")).code, 400);
}

#[test]
fn names_belong_to_one_definition_at_a_time() {
    let (_server, api) = quiet();
    define(&api, &widgets());
    let mut other = widgets();
    other["metadata"]["name"] = "gizmos.example.com".into();
    other["spec"]["names"] = json!({"plural": "gizmos", "kind": "Widget", "shortNames": ["gz"]});
    api.post(DEFINITIONS, &other).ok();
    let path = format!("{DEFINITIONS}/gizmos.example.com");
    wait_until("the names are judged", SOON, || condition(&api.get(&path).ok(), "NamesAccepted").0 == "False");
    let refused = api.get(&path).ok();
    assert_eq!(condition(&refused, "NamesAccepted"), ("False".into(), "ListKindConflict".into(), "\"WidgetList\" is already in use".into()));
    assert_eq!(condition(&refused, "Established"), ("False".into(), "NotAccepted".into(), "not all names are accepted".into()));
    assert_eq!(api.get("/apis/example.com/v1/namespaces/default/gizmos").code, 404);
    api.delete(&format!("{DEFINITIONS}/widgets.example.com")).ok();
    established(&api, "gizmos.example.com");
    assert_eq!(api.get("/apis/example.com/v1/namespaces/default/gizmos").code, 200);
    // A definition that was never established goes at once.
    define(&api, &{
        let mut first = widgets();
        first["spec"]["names"]["kind"] = "Other".into();
        first
    });
    api.delete(&path).ok();
    wait_until("it is gone", SOON, || api.get(&path).code == 404);
}

#[test]
fn a_definition_waits_for_objects_that_are_held() {
    let (_server, api) = quiet();
    define(&api, &widgets());
    let mut held = widget("held", json!({"size": 1}));
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    api.post(WIDGETS, &held).ok();
    api.post(WIDGETS, &widget("free", json!({"size": 1}))).ok();
    let path = format!("{DEFINITIONS}/widgets.example.com");
    let going = api.delete(&path).ok();
    assert_eq!(going["metadata"]["finalizers"], json!(["customresourcecleanup.apiextensions.k8s.io"]));
    assert_eq!(condition(&going, "Terminating").1, "InstanceDeletionPending");
    wait_until("what is free goes", SOON, || api.get(&format!("{WIDGETS}/free")).code == 404);
    let waiting = api.get(&path).ok();
    assert_eq!(condition(&waiting, "Terminating"), ("True".into(), "InstanceDeletionInProgress".into(), "CustomResource deletion is in progress".into()));
    assert!(api.get(&format!("{WIDGETS}/held")).ok()["metadata"]["deletionTimestamp"].is_string());
    let (code, reason, message) = api.post(WIDGETS, &widget("late", json!({"size": 1}))).refusal();
    assert_eq!((code, reason.as_str(), message.as_str()), (405, "MethodNotAllowed", "create not allowed while custom resource definition is terminating"));
    api.patch("merge", &format!("{WIDGETS}/held"), &json!({"metadata": {"finalizers": null}})).ok();
    wait_until("the definition follows its last object", SOON, || api.get(&path).code == 404);
    assert_eq!(api.get(WIDGETS).code, 404);
}

#[test]
fn a_definition_that_is_wrong_is_told_where() {
    let (_server, api) = quiet();
    let refuse = |change: &dyn Fn(&mut Value), want: &str| {
        let mut definition = widgets();
        change(&mut definition);
        let (code, reason, message) = api.post(DEFINITIONS, &definition).refusal();
        let name = definition["metadata"]["name"].as_str().unwrap();
        assert_eq!((code, reason.as_str()), (422, "Invalid"), "{message}");
        assert_eq!(message, format!("CustomResourceDefinition.apiextensions.k8s.io {name:?} is invalid: {want}"));
    };
    refuse(&|d| d["metadata"]["name"] = "x.example.com".into(), "metadata.name: Invalid value: \"x.example.com\": must be spec.names.plural+\".\"+spec.group");
    refuse(&|d| d["spec"]["scope"] = "Wide".into(), "spec.scope: Unsupported value: \"Wide\": supported values: \"Cluster\", \"Namespaced\"");
    refuse(
        &|d| d["spec"]["versions"][0]["schema"] = Value::Null,
        "[spec.versions[0].schema.openAPIV3Schema: Required value, spec.selectableFields: Invalid value: \"\": may only be set when `version.schema.openAPIV3Schema` is not included]",
    );
    refuse(
        &|d| drop(d["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].as_object_mut().unwrap().remove("type")),
        "spec.validation.openAPIV3Schema.properties[spec].type: Required value: must not be empty for specified object fields",
    );
    refuse(
        &|d| d["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["color"]["default"] = "green".into(),
        "spec.validation.openAPIV3Schema.properties[spec].properties[color].default: Unsupported value: \"green\": supported values: \"blue\", \"red\"",
    );
    refuse(
        &|d| d["spec"]["versions"][0]["additionalPrinterColumns"][0]["type"] = "text".into(),
        "spec.additionalPrinterColumns[0].type: Invalid value: \"text\": must be one of boolean,date,integer,number,string",
    );
    refuse(
        &|d| d["spec"]["versions"][0]["selectableFields"] = json!([{"jsonPath": ".spec.any"}]),
        "spec.selectableFields[0].jsonPath: Invalid value: \".spec.any\": must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.",
    );
    refuse(
        &|d| {
            d["metadata"]["name"] = "widgets.x.k8s.io".into();
            d["spec"]["group"] = "x.k8s.io".into();
        },
        "metadata.annotations[api-approved.kubernetes.io]: Required value: protected groups must have approval annotation \"api-approved.kubernetes.io\", see https://github.com/kubernetes/enhancements/pull/1111",
    );
    refuse(
        &|d| d["spec"]["conversion"] = json!({"strategy": "Webhook"}),
        "[spec.conversion.webhookClientConfig: Required value: required when strategy is set to Webhook, spec.conversion.conversionReviewVersions: Required value]",
    );
    let ready = define(&api, &widgets());
    let mut changed = ready.clone();
    changed["spec"]["scope"] = "Cluster".into();
    let (_, _, message) = api.put(&format!("{DEFINITIONS}/widgets.example.com"), &changed).refusal();
    assert!(message.ends_with("spec.scope: Invalid value: \"Cluster\": field is immutable"), "{message}");
}

#[test]
fn discovery_and_documents_follow_the_definitions() {
    let (_server, api) = quiet();
    let tag = api.get("/openapi/v2").header("etag").unwrap().to_owned();
    define(&api, &widgets());
    let list = api.get("/apis/example.com/v1").ok();
    let resources: Vec<(&str, &Value)> = list["resources"].as_array().unwrap().iter().map(|r| (r["name"].as_str().unwrap(), &r["verbs"])).collect();
    assert_eq!(resources.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["widgets", "widgets/scale", "widgets/status"]);
    let index = api.get("/openapi/v3").ok();
    let url = index["paths"]["apis/example.com/v1"]["serverRelativeURL"].as_str().unwrap().to_owned();
    let document = api.get(&url).ok();
    let schema = &document["components"]["schemas"]["com.example.v1.Widget"];
    assert_eq!(schema["properties"]["spec"]["properties"]["color"]["default"], "blue");
    assert!(document["paths"]["/apis/example.com/v1/namespaces/{namespace}/widgets/{name}/scale"].is_object());
    let v2 = api.get("/openapi/v2");
    assert_ne!(v2.header("etag").unwrap(), tag);
    assert!(v2.ok()["definitions"]["com.example.v1.Widget"].is_object());
    api.delete(&format!("{DEFINITIONS}/widgets.example.com")).ok();
    wait_until("the group is gone", SOON, || api.get("/apis/example.com").code == 404);
    assert!(api.get("/openapi/v3").ok()["paths"].get("apis/example.com/v1").is_none());
    assert_eq!(api.get("/openapi/v2").header("etag").unwrap(), tag);
}

#[test]
fn ten_thousand_objects_are_listed_in_pieces() {
    const COUNT: usize = 10_000;
    let (_server, api) = quiet();
    define(&api, &widgets());
    std::thread::scope(|scope| {
        for part in 0..16 {
            let api = &api;
            scope.spawn(move || {
                let own = (part..COUNT).step_by(16).map(|n| widget(&format!("w{n:05}"), json!({"size": n + 1})));
                assert!(api.post_all(WIDGETS, own).iter().all(|code| *code == 201));
            });
        }
    });
    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let page = api.get(&format!("{WIDGETS}?limit=3000&continue={token}")).ok();
        seen.extend(names(&page));
        token = page["metadata"]["continue"].as_str().unwrap_or_default().to_owned();
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, (0..COUNT).map(|n| format!("w{n:05}")).collect::<Vec<_>>());
    assert_eq!(names(&api.get(WIDGETS).ok()).len(), COUNT);
    assert_eq!(names(&api.get(&format!("{WIDGETS}?fieldSelector=spec.size%3D4242")).ok()), ["w04241"]);
    assert_eq!(api.delete(WIDGETS).code, 200);
    assert!(names(&api.get(WIDGETS).ok()).is_empty());
}

#[test]
fn many_patches_of_one_object_all_get_through() {
    let (_server, api) = quiet();
    define(&api, &widgets());
    api.post(WIDGETS, &widget("a", json!({"size": 1}))).ok();
    std::thread::scope(|scope| {
        for n in 0..12 {
            let api = &api;
            scope.spawn(move || {
                let any = json!({"spec": {"any": {format!("k{n}"): n}}});
                let reply = if n % 2 == 0 {
                    api.patch("merge", &format!("{WIDGETS}/a"), &any)
                } else {
                    let mut object = widget("a", any["spec"].clone());
                    object["spec"]["tags"] = json!([format!("t{n}")]);
                    api.patch("apply", &format!("{WIDGETS}/a?fieldManager=m{n}"), &object)
                };
                assert_eq!(reply.code, 200, "{}", reply.text());
            });
        }
    });
    let spec = &api.get(&format!("{WIDGETS}/a")).ok()["spec"];
    assert_eq!((spec["any"].as_object().unwrap().len(), spec["tags"].as_array().unwrap().len()), (12, 6));
}

#[test]
fn hundreds_of_definitions_are_served_at_once() {
    const COUNT: usize = 300;
    let (_server, api) = quiet();
    let definitions = (0..COUNT).map(|n| {
        let mut definition = widgets();
        definition["metadata"]["name"] = format!("kind{n}s.g{}.example.com", n % 7).into();
        definition["spec"]["group"] = format!("g{}.example.com", n % 7).into();
        definition["spec"]["names"] = json!({"plural": format!("kind{n}s"), "kind": format!("Kind{n}")});
        definition
    });
    assert!(api.post_all(DEFINITIONS, definitions).iter().all(|code| *code == 201));
    wait_until("all are established", SOON, || {
        api.get(DEFINITIONS).ok()["items"].as_array().unwrap().iter().all(|definition| condition(definition, "Established").0 == "True")
    });
    let served: usize = (0..7).map(|n| api.get(&format!("/apis/g{n}.example.com/v1")).ok()["resources"].as_array().unwrap().len()).sum();
    assert_eq!(served, COUNT * 3);
    let index = api.get("/openapi/v3").ok();
    assert_eq!(index["paths"].as_object().unwrap().keys().filter(|path| path.contains("example.com")).count(), 7);
    assert_eq!(api.get("/apis/g3.example.com/v1/kind3s").code, 200);
}
