//! Server-side apply against upstream's documented behaviour, and its laws.
use super::*;
use api_schema::{SchemaRef, builtin};
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::json;

fn writer(manager: &str, second: i64) -> Writer<'_> {
    Writer { manager, subresource: "", reset: &["status"], now: Timestamp::from_second(second).unwrap() }
}

fn deployment() -> SchemaRef {
    builtin::for_kind("apps", "v1", "Deployment").unwrap()
}

fn with_spec(spec: Value) -> Value {
    json!({"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web","namespace":"default"},"spec":spec})
}

fn containers(list: Value) -> Value {
    with_spec(json!({"template":{"spec":{"containers":list}}}))
}

fn applied(live: Option<&Value>, config: &Value, manager: &str, force: bool) -> Result<Value, Status> {
    apply(live, config, &deployment(), &writer(manager, 60), force)
}

fn without_managers(mut object: Value) -> Value {
    take(&mut object);
    object
}

fn owners(object: &Value) -> Vec<(String, Value)> {
    let entries = object["metadata"]["managedFields"].as_array().into_iter().flatten();
    entries.map(|e| (format!("{}/{}", e["manager"].as_str().unwrap(), e["operation"].as_str().unwrap()), e["fieldsV1"].clone())).collect()
}

#[test]
fn an_applier_owns_what_its_configuration_says() {
    let config = json!({"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web","namespace":"default","labels":{"app":"web"}},
        "spec":{"replicas":3,"selector":{"matchLabels":{"app":"web"}},"template":{"spec":{"containers":[{"name":"c","image":"i","resources":{},"ports":[{"containerPort":80}]}]}}}});
    let object = applied(None, &config, "me", false).unwrap();
    assert_eq!(
        object["metadata"]["managedFields"],
        json!([{"manager":"me","operation":"Apply","apiVersion":"apps/v1","time":"1970-01-01T00:01:00Z","fieldsType":"FieldsV1","fieldsV1":{
            "f:metadata":{"f:labels":{"f:app":{}}},
            "f:spec":{"f:replicas":{},"f:selector":{},"f:template":{"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:name":{},"f:image":{},"f:resources":{},
                "f:ports":{"k:{\"containerPort\":80,\"protocol\":\"TCP\"}":{".":{},"f:containerPort":{}}}}}}}},
        }}])
    );
    assert_eq!(without_managers(object), config);
}

#[test]
fn what_others_own_is_a_conflict() {
    let mut live = with_spec(json!({"replicas":1,"paused":false}));
    track_update(None, &mut live, &deployment(), &writer("kubectl-client-side-apply", 0));
    let status = applied(Some(&live), &with_spec(json!({"replicas":2})), "me", false).unwrap_err();
    assert_eq!((status.code, status.reason), (409, "Conflict"));
    assert_eq!(status.message, "Apply failed with 1 conflict: conflict with \"kubectl-client-side-apply\" using apps/v1: .spec.replicas");
    let cause = &status.details.unwrap().causes[0];
    assert_eq!((cause.reason.as_str(), cause.field.as_str()), ("FieldManagerConflict", ".spec.replicas"));
    assert_eq!(cause.message, "conflict with \"kubectl-client-side-apply\" using apps/v1");

    let status = applied(Some(&live), &with_spec(json!({"replicas":2,"paused":true})), "me", false).unwrap_err();
    assert_eq!(status.message, "Apply failed with 2 conflicts: conflicts with \"kubectl-client-side-apply\" using apps/v1:\n- .spec.paused\n- .spec.replicas");

    let object = applied(Some(&live), &with_spec(json!({"replicas":2})), "me", true).unwrap();
    assert_eq!(object["spec"], json!({"replicas":2,"paused":false}));
    assert_eq!(
        owners(&object),
        [("me/Apply".into(), json!({"f:spec":{"f:replicas":{}}})), ("kubectl-client-side-apply/Update".into(), json!({"f:spec":{"f:paused":{}}}))]
    );
}

#[test]
fn conflicts_name_list_items_by_their_keys() {
    let live = applied(None, &containers(json!([{"name":"c","image":"1"}])), "one", false).unwrap();
    let status = applied(Some(&live), &containers(json!([{"name":"c","image":"2"}])), "two", false).unwrap_err();
    assert_eq!(status.message, r#"Apply failed with 1 conflict: conflict with "one": .spec.template.spec.containers[name="c"].image"#);
}

#[test]
fn appliers_share_what_they_agree_on() {
    let config = with_spec(json!({"replicas":2}));
    let live = applied(None, &config, "one", false).unwrap();
    let live = applied(Some(&live), &config, "two", false).unwrap();
    assert_eq!(owners(&live).len(), 2);
    // One gives it up: the other still owns it.
    let live = applied(Some(&live), &with_spec(json!({"paused":true})), "one", false).unwrap();
    assert_eq!(live["spec"], json!({"replicas":2,"paused":true}));
    // Now nobody does.
    let live = applied(Some(&live), &with_spec(json!({"minReadySeconds":1})), "two", false).unwrap();
    assert_eq!(live["spec"], json!({"paused":true,"minReadySeconds":1}));
}

#[test]
fn what_is_no_longer_applied_goes() {
    for (what, first, second, want) in [
        ("a field", json!({"replicas":1,"paused":true}), json!({"replicas":1}), json!({"replicas":1})),
        (
            "a list item",
            json!({"template":{"spec":{"containers":[{"name":"a"},{"name":"b","image":"x"}]}}}),
            json!({"template":{"spec":{"containers":[{"name":"a"}]}}}),
            json!({"template":{"spec":{"containers":[{"name":"a"}]}}}),
        ),
        (
            "a map key",
            json!({"template":{"metadata":{"labels":{"a":"1","b":"2"}}}}),
            json!({"template":{"metadata":{"labels":{"b":"2"}}}}),
            json!({"template":{"metadata":{"labels":{"b":"2"}}}}),
        ),
        ("a struct", json!({"replicas":1,"strategy":{"type":"Recreate"}}), json!({"replicas":1}), json!({"replicas":1})),
        (
            "a field of an item",
            json!({"template":{"spec":{"containers":[{"name":"a","image":"x","tty":true}]}}}),
            json!({"template":{"spec":{"containers":[{"name":"a","image":"x"}]}}}),
            json!({"template":{"spec":{"containers":[{"name":"a","image":"x"}]}}}),
        ),
    ] {
        let live = applied(None, &with_spec(first), "me", false).unwrap();
        let object = applied(Some(&live), &with_spec(second), "me", false).unwrap();
        assert_eq!(object["spec"], want, "{what}");
    }
}

#[test]
fn what_the_server_filled_in_stays_unless_its_item_goes() {
    let first = containers(json!([{"name":"a","image":"x"},{"name":"b","image":"y"}]));
    let mut live = applied(None, &first, "me", false).unwrap();
    live["spec"]["replicas"] = 1.into();
    for at in 0..2 {
        live["spec"]["template"]["spec"]["containers"][at]["imagePullPolicy"] = "Always".into();
    }
    let object = applied(Some(&live), &containers(json!([{"name":"b","image":"z"}])), "me", false).unwrap();
    assert_eq!(object["spec"], json!({"replicas":1,"template":{"spec":{"containers":[{"name":"b","image":"z","imagePullPolicy":"Always"}]}}}));
}

#[test]
fn what_an_updater_owns_is_not_pruned() {
    let live = applied(None, &with_spec(json!({"replicas":1,"paused":true})), "me", false).unwrap();
    let mut scaled = live.clone();
    scaled["spec"]["replicas"] = 5.into();
    track_update(Some(&live), &mut scaled, &deployment(), &writer("hpa", 90));
    let object = applied(Some(&scaled), &with_spec(json!({"paused":true})), "me", false).unwrap();
    assert_eq!(object["spec"], json!({"replicas":5,"paused":true}));
    assert_eq!(owners(&object)[1], ("hpa/Update".into(), json!({"f:spec":{"f:replicas":{}}})));
}

#[test]
fn sets_and_atomic_lists_merge_as_their_types_say() {
    let with_metadata = |finalizers: Value, args: Value| {
        let mut config = containers(json!([{"name":"a","args":args}]));
        config["metadata"]["finalizers"] = finalizers;
        config
    };
    let live = applied(None, &with_metadata(json!(["x/a"]), json!(["1"])), "one", false).unwrap();
    let object = applied(Some(&live), &with_metadata(json!(["x/b"]), json!(["2"])), "two", true).unwrap();
    assert_eq!(object["metadata"]["finalizers"], json!(["x/a", "x/b"]));
    assert_eq!(object["spec"]["template"]["spec"]["containers"][0]["args"], json!(["2"]));
}

#[test]
fn configurations_that_do_not_fit_are_told() {
    for (config, want) in [
        (with_spec(json!({"foo":1})), ".spec.foo: field not declared in schema"),
        (
            containers(json!([{"image":"x"}])),
            ".spec.template.spec.containers: element 0: associative list with keys has an element that omits key field \"name\" (and doesn't have default value)",
        ),
        (containers(json!([{"name":"a"},{"name":"a"}])), ".spec.template.spec.containers: duplicate entries for key [name=\"a\"]"),
        (
            with_spec(json!({"foo":1,"template":{"bar":{}}})),
            "errors:\n  .spec.foo: field not declared in schema\n  .spec.template.bar: field not declared in schema",
        ),
    ] {
        let status = applied(None, &config, "me", false).unwrap_err();
        assert_eq!(status.message, format!("failed to create typed patch object (default/web; apps/v1, Kind=Deployment): {want}"));
    }
    let mut config = with_spec(json!({}));
    config["metadata"]["managedFields"] = json!([]);
    assert_eq!(applied(None, &config, "me", false).unwrap_err().message, "metadata.managedFields must be nil");
}

#[test]
fn an_untracked_object_belongs_to_what_was_before() {
    let live = with_spec(json!({"replicas":1}));
    let status = applied(Some(&live), &with_spec(json!({"replicas":2})), "me", false).unwrap_err();
    assert_eq!(status.message, "Apply failed with 1 conflict: conflict with \"before-first-apply\" using apps/v1: .spec.replicas");
}

#[test]
fn kubectl_takes_over_from_client_side_apply() {
    let mut live = with_spec(json!({"replicas":1}));
    live["metadata"]["annotations"] = json!({"kubectl.kubernetes.io/last-applied-configuration": with_spec(json!({"replicas":1})).to_string()});
    track_update(None, &mut live, &deployment(), &writer("kubectl-client-side-apply", 0));
    let config = with_spec(json!({"replicas":2}));
    assert_eq!(applied(Some(&live), &config, "other", false).unwrap_err().code, 409);
    let object = applied(Some(&live), &config, "kubectl", false).unwrap();
    assert_eq!(object["spec"]["replicas"], 2);
    assert_eq!(object["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"], format!("{config}\n"));
}

#[test]
fn custom_resources_without_a_schema_are_owned_field_by_field() {
    let schema = api_schema::Schema::anything();
    let config = json!({"apiVersion":"a/v1","kind":"A","metadata":{"name":"x"},"spec":{"a":{"b":1},"list":[{"name":"x"}]}});
    let live = apply(None, &config, schema, &writer("one", 0), false).unwrap();
    assert_eq!(owners(&live)[0].1, json!({"f:spec":{".":{},"f:a":{".":{},"f:b":{}},"f:list":{}}}));
    let mut other = config.clone();
    other["spec"] = json!({"a":{"c":2}});
    let live = apply(Some(&live), &other, schema, &writer("two", 0), false).unwrap();
    assert_eq!(live["spec"], json!({"a":{"b":1,"c":2},"list":[{"name":"x"}]}));
}

/// A configuration of fields of every kind of ownership.
fn any_config() -> impl Strategy<Value = Value> {
    let text = "[a-c]{1,2}";
    let labels = prop::collection::btree_map(text, text, 0..3);
    let container = (prop::option::of(text), prop::collection::vec(text, 0..3), prop::collection::btree_set(1..4u16, 0..3));
    let containers = prop::collection::btree_map(text, container, 0..3);
    (prop::option::of(0..3u8), labels, containers, prop::collection::btree_set(text, 0..3), prop::option::of(any::<bool>())).prop_map(
        |(replicas, labels, containers, finalizers, paused)| {
            let containers: Vec<Value> = containers
                .into_iter()
                .map(|(name, (image, args, ports))| {
                    let ports: Vec<Value> = ports.into_iter().map(|p| json!({"containerPort":p})).collect();
                    let mut container = json!({"name":name,"args":args,"ports":ports});
                    if let Some(image) = image {
                        container["image"] = image.into();
                    }
                    container
                })
                .collect();
            let mut config = with_spec(json!({"template":{"metadata":{"labels":labels},"spec":{"containers":containers}}}));
            config["metadata"]["finalizers"] = finalizers.into_iter().collect();
            if let Some(replicas) = replicas {
                config["spec"]["replicas"] = replicas.into();
            }
            if let Some(paused) = paused {
                config["spec"]["paused"] = paused.into();
            }
            config
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn applying_twice_changes_nothing(first in any_config(), second in any_config()) {
        let live = applied(None, &first, "one", false).unwrap();
        let once = applied(Some(&live), &second, "two", true).unwrap();
        let again = apply(Some(&once), &second, &deployment(), &writer("two", 999), false).unwrap();
        prop_assert_eq!(once, again);
    }

    #[test]
    fn a_sole_applier_gets_what_it_applies(first in any_config(), second in any_config()) {
        let live = applied(None, &first, "one", false).unwrap();
        let object = applied(Some(&live), &second, "one", false).unwrap();
        let fresh = applied(None, &second, "one", false).unwrap();
        prop_assert_eq!(owners(&object), owners(&fresh));
        prop_assert_eq!(field_set(&object, &deployment()), field_set(&fresh, &deployment()));
    }

    #[test]
    fn an_update_leaves_every_field_with_one_updater(first in any_config(), second in any_config()) {
        let mut old = first;
        track_update(None, &mut old, &deployment(), &writer("one", 0));
        let mut new = second;
        track_update(Some(&old), &mut new, &deployment(), &writer("two", 1));
        let owners = owners(&new);
        if let [(_, one), (_, two)] = &owners[..] {
            prop_assert!(intersection(one.as_object().unwrap(), two.as_object().unwrap()).is_empty());
        }
        let again = new.clone();
        track_update(Some(&again), &mut new, &deployment(), &writer("three", 2));
        prop_assert_eq!(again, new);
    }
}
