//! Laws of patches, and what upstream's documentation shows them to do.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]
use api_patch::{Writer, apply, json_patch, merge_patch, strategic_merge};
use api_schema::{SchemaRef, builtin};
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

fn deployments() -> SchemaRef {
    builtin::for_kind("apps", "v1", "Deployment").unwrap()
}

/// JSON without nulls, which a merge patch cannot bring about.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![any::<bool>().prop_map(Value::from), (-9..9i8).prop_map(Value::from), "[a-c~/]{0,2}".prop_map(Value::from)];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[a-d~/]{1,2}", inner, 0..4).prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn any_object() -> impl Strategy<Value = Value> {
    prop::collection::btree_map("[a-d~/]{1,2}", any_json(), 0..4).prop_map(|fields| Value::Object(fields.into_iter().collect()))
}

/// The merge patch that leads from one object to another.
fn merge_diff(from: &Map<String, Value>, to: &Map<String, Value>) -> Value {
    let mut patch: Map<String, Value> = from.keys().filter(|key| !to.contains_key(*key)).map(|key| (key.clone(), Value::Null)).collect();
    for (key, value) in to.iter().filter(|(key, value)| from.get(*key) != Some(value)) {
        let change = match (from.get(key), value) {
            (Some(Value::Object(from)), Value::Object(to)) => merge_diff(from, to),
            _ => value.clone(),
        };
        patch.insert(key.clone(), change);
    }
    Value::Object(patch)
}

/// Containers by name: images and arguments of them.
type Containers = std::collections::BTreeMap<String, (Option<String>, Vec<String>)>;

fn any_containers() -> impl Strategy<Value = Containers> {
    prop::collection::btree_map("[a-d]", (prop::option::of("[x-z]"), prop::collection::vec("[a-b]", 0..3)), 0..4)
}

fn container(name: &str, (image, args): &(Option<String>, Vec<String>)) -> Value {
    let mut container = json!({"name": name, "args": args});
    if let Some(image) = image {
        container["image"] = image.as_str().into();
    }
    container
}

fn with_containers(containers: Vec<Value>) -> Value {
    json!({"spec": {"template": {"spec": {"containers": containers}}}})
}

fn deployment_of(containers: &Containers) -> Value {
    with_containers(containers.iter().map(|(name, what)| container(name, what)).collect())
}

/// The strategic merge patch that leads from some containers to others, as kubectl makes them.
fn strategic_diff(from: &Containers, to: &Containers) -> Value {
    let mut changes: Vec<Value> = to
        .iter()
        .filter_map(|(name, what)| {
            let Some(before) = from.get(name) else { return Some(container(name, what)) };
            let mut change = json!({"name": name});
            if before.0 != what.0 {
                change["image"] = what.0.clone().into();
            }
            if before.1 != what.1 {
                change["args"] = what.1.clone().into();
            }
            (before != what).then_some(change)
        })
        .collect();
    changes.extend(from.keys().filter(|name| !to.contains_key(*name)).map(|name| json!({"name": name, "$patch": "delete"})));
    let order: Vec<Value> = to.keys().map(|name| json!({"name": name})).collect();
    json!({"spec": {"template": {"spec": {"$setElementOrder/containers": order, "containers": changes}}}})
}

/// Every place in a document, as JSON pointers with their values.
fn places(value: &Value, at: String, found: &mut Vec<(String, Value)>) {
    found.push((at.clone(), value.clone()));
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, value)| places(value, format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")), found)),
        Value::Array(items) => items.iter().enumerate().for_each(|(index, value)| places(value, format!("{at}/{index}"), found)),
        _ => {}
    }
}

fn applied(live: Option<&Value>, config: &Value, manager: &str) -> Value {
    let writer = Writer { manager, subresource: "", reset: &["status"], now: Timestamp::UNIX_EPOCH };
    apply(live, config, &deployments(), &writer, false).unwrap()
}

/// A configuration of labels and containers of such names.
fn own_config(name: &'static str) -> impl Strategy<Value = Value> {
    let labels = prop::collection::btree_map(name, "[a-b]", 1..4);
    let containers = prop::collection::btree_map(name, (prop::option::of("[x-z]"), prop::collection::vec("[a-b]", 0..3)), 0..3);
    (labels, containers).prop_map(|(labels, containers): (_, Containers)| {
        let mut config = deployment_of(&containers);
        config["apiVersion"] = "apps/v1".into();
        config["kind"] = "Deployment".into();
        config["metadata"] = json!({"name": "web", "labels": labels});
        config
    })
}

/// The object whatever the order in which its owners came and its items were added.
fn orderless(mut object: Value) -> Value {
    let by = |key: &'static str| move |a: &Value, b: &Value| a[key].as_str().cmp(&b[key].as_str());
    for (list, key) in [("/metadata/managedFields", "manager"), ("/spec/template/spec/containers", "name")] {
        object.pointer_mut(list).and_then(Value::as_array_mut).into_iter().for_each(|items| items.sort_by(by(key)));
    }
    object
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn a_merge_patch_leads_from_any_object_to_any_other(from in any_object(), to in any_object()) {
        let patch = merge_diff(from.as_object().unwrap(), to.as_object().unwrap());
        let merged = merge_patch(from, patch.clone()).unwrap();
        prop_assert_eq!(&merged, &to);
        prop_assert_eq!(merge_patch(merged.clone(), patch).unwrap(), merged.clone());
        prop_assert_eq!(merge_patch(merged.clone(), json!({})).unwrap(), merged);
    }

    #[test]
    fn a_strategic_patch_leads_from_any_containers_to_any_other(from in any_containers(), to in any_containers()) {
        let patch = strategic_diff(&from, &to);
        let merged = strategic_merge(deployment_of(&from), patch.clone(), &deployments()).unwrap();
        prop_assert_eq!(&merged, &deployment_of(&to));
        prop_assert_eq!(strategic_merge(merged.clone(), patch, &deployments()).unwrap(), merged);
    }

    #[test]
    fn a_test_holds_where_the_value_is_and_nowhere_else(document in any_object(), at in any::<prop::sample::Index>()) {
        let mut found = Vec::new();
        places(&document, String::new(), &mut found);
        let (path, value) = at.get(&found);
        let test = |value: &Value| json_patch(document.clone(), json!([{"op": "test", "path": path, "value": value}]));
        prop_assert_eq!(test(value).unwrap(), document.clone());
        prop_assert_eq!(test(&json!({"other": value})).unwrap_err().code, 422);
        // One test that fails is enough.
        let failing = json_patch(document, json!([{"op": "add", "path": "/new", "value": 1}, {"op": "test", "path": "/gone", "value": 1}]));
        prop_assert_eq!(failing.unwrap_err().code, 422);
    }

    #[test]
    fn what_is_added_and_removed_leaves_nothing(document in any_object(), value in any_json()) {
        let patch = json!([{"op": "add", "path": "/new", "value": value}, {"op": "copy", "from": "/new", "path": "/other"}, {"op": "move", "from": "/other", "path": "/new"}, {"op": "remove", "path": "/new"}]);
        prop_assert_eq!(json_patch(document.clone(), patch).unwrap(), document);
    }

    #[test]
    fn managers_who_share_nothing_may_apply_in_any_order(one in own_config("x[a-c]"), two in own_config("y[a-c]")) {
        let onward = applied(Some(&applied(None, &one, "one")), &two, "two");
        let backward = applied(Some(&applied(None, &two, "two")), &one, "one");
        prop_assert_eq!(orderless(onward.clone()), orderless(backward));
        prop_assert_eq!(applied(Some(&onward), &one, "one"), onward.clone(), "an apply done again");
        // Giving up all of one's own leaves the other's alone.
        let nothing = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}});
        let left = applied(Some(&onward), &nothing, "one");
        prop_assert_eq!(&left["metadata"]["labels"], &two["metadata"]["labels"]);
    }
}

// kubernetes.io/docs/tasks/manage-kubernetes-objects/update-api-object-kubectl-patch
#[test]
fn patches_do_what_the_documentation_shows() {
    let with = |tolerations: Value, containers: Value| json!({"spec": {"template": {"spec": {"containers": containers, "tolerations": tolerations}}}});
    let dedicated = json!([{"effect": "NoSchedule", "key": "dedicated", "value": "test-team"}]);
    let nginx = json!({"name": "patch-demo-ctr", "image": "nginx"});
    let (redis, node) =
        (json!({"name": "patch-demo-ctr-2", "image": "redis"}), json!({"name": "patch-demo-ctr-3", "image": "gcr.io/google-samples/hello-app:2.0"}));
    let strategic = |document: Value, patch: Value| strategic_merge(document, patch, &deployments()).unwrap();

    // A strategic merge patch adds to the containers, and replaces the tolerations.
    let two = strategic(with(dedicated.clone(), json!([nginx])), with_containers(vec![redis.clone()]));
    assert_eq!(two, with(dedicated, json!([redis, nginx])));
    let other = json!([{"effect": "NoSchedule", "key": "disktype", "value": "ssd"}]);
    let three = strategic(two, json!({"spec": {"template": {"spec": {"tolerations": other}}}}));
    assert_eq!(three, with(other.clone(), json!([redis, nginx])));
    // A JSON merge patch replaces the whole list.
    assert_eq!(merge_patch(three, with_containers(vec![node.clone()])).unwrap(), with(other, json!([node])));
    // The strategy keeps only the keys that the patch names.
    let rolling = json!({"spec": {"strategy": {"rollingUpdate": {"maxSurge": "30%", "maxUnavailable": "30%"}, "type": "RollingUpdate"}}});
    let recreate = json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}});
    assert_eq!(strategic(rolling, recreate), json!({"spec": {"strategy": {"type": "Recreate"}}}));
}
