//! The search for devices, and what comes of it, on pools of all kinds.
use super::pools::Pools;
use super::taken::{InUse, Taken};
use super::{DeviceSelectors, allocation, asked, search};
use crate::NodeInfo;
use crate::testing::node;
use api_meta::ClusterName;
use controller_kit::ObjectKey;
use k8s_openapi::api::resource::v1::{AllocationResult, DeviceClass, DeviceTaintRule, ResourceClaim, ResourceSlice};
use serde_json::{Value, json};
use std::sync::Arc;

/// Understands `attribute=text` and `driver=name`; nothing else has an answer.
struct Selectors;

impl DeviceSelectors for Selectors {
    fn matches(&self, expression: &str, driver: &str, device: &Value) -> Result<bool, String> {
        match expression.split_once('=') {
            Some(("driver", name)) => Ok(name == driver),
            Some((attribute, text)) => Ok(device["attributes"][attribute]["string"] == text),
            None => Err(format!("no such key: {expression}")),
        }
    }
}

fn slice(spec: Value) -> Arc<ResourceSlice> {
    let mut full = json!({"driver": "gpu.example.com", "pool": {"name": "n1", "generation": 1, "resourceSliceCount": 1}, "nodeName": "n1"});
    crate::testing::merge(&mut full, spec);
    let fields = full.as_object_mut().unwrap();
    fields.retain(|_, value| !value.is_null());
    Arc::new(serde_json::from_value(json!({"metadata": {"name": "s"}, "spec": full})).unwrap())
}

fn device(name: &str, with: Value) -> Value {
    let mut device = json!({"name": name});
    crate::testing::merge(&mut device, with);
    device
}

/// Three devices of two models on the node `n1`.
fn three() -> Vec<Arc<ResourceSlice>> {
    let model = |name: &str, model: &str, numa: i64| device(name, json!({"attributes": {"model": {"string": model}, "numa": {"int": numa}}}));
    vec![slice(json!({"devices": [model("a", "big", 0), model("b", "small", 1), model("c", "small", 0)]}))]
}

fn claim(devices: Value) -> Arc<ResourceClaim> {
    Arc::new(serde_json::from_value(json!({"metadata": {"name": "c", "namespace": "n", "uid": "u"}, "spec": {"devices": devices}})).unwrap())
}

fn exactly(with: Value) -> Value {
    let mut request = json!({"deviceClassName": "any"});
    crate::testing::merge(&mut request, with);
    json!({"requests": [{"name": "r", "exactly": request}]})
}

fn key() -> ObjectKey {
    ObjectKey::new(&ClusterName::root(), "n", "c")
}

fn class(name: &str) -> Option<Arc<DeviceClass>> {
    let spec = match name {
        "any" => json!({}),
        "small" => {
            json!({"selectors": [{"cel": {"expression": "model=small"}}], "config": [{"opaque": {"driver": "gpu.example.com", "parameters": {"a": 1}}}]})
        }
        _ => return None,
    };
    Some(Arc::new(serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).unwrap()))
}

fn allocate(slices: &[Arc<ResourceSlice>], rules: &[Arc<DeviceTaintRule>], used: &InUse, devices: Value) -> Result<Option<AllocationResult>, String> {
    let asked = [asked::read(&key(), &claim(devices), &class)?];
    let mut tries = search::MOST_TRIES_OF_ALL;
    let (pools, node) = (Pools::new(slices, rules), NodeInfo::new(node("n1", json!({}))));
    let found = search::search(&asked, &pools.of(&node), used, &node, &Selectors, &mut tries)?;
    Ok(found.map(|picks| allocation::decided(&asked, &picks, &node).remove(0).allocation))
}

fn shown(found: Result<Option<AllocationResult>, String>) -> String {
    match found {
        Ok(Some(allocation)) => {
            let results = allocation.devices.unwrap().results.unwrap();
            results.iter().map(|result| format!("{}:{}", result.request, result.device)).collect::<Vec<_>>().join(" ")
        }
        Ok(None) => "none".into(),
        Err(why) => why,
    }
}

fn check(slices: &[Arc<ResourceSlice>], devices: Value) -> String {
    shown(allocate(slices, &[], &InUse::default(), devices))
}

#[test]
fn requests_get_devices_their_selectors_take() {
    let selecting = |expression: &str| exactly(json!({"selectors": [{"cel": {"expression": expression}}]}));
    for (devices, expected) in [
        (exactly(json!({})), "r:a"),
        (exactly(json!({"count": 3})), "r:a r:b r:c"),
        (exactly(json!({"count": 4})), "none"),
        (exactly(json!({"deviceClassName": "small"})), "r:b"),
        (exactly(json!({"deviceClassName": "small", "allocationMode": "All"})), "r:b r:c"),
        (exactly(json!({"deviceClassName": "none"})), "request r: device class none does not exist"),
        (selecting("model=big"), "r:a"),
        (selecting("driver=other"), "none"),
        (selecting("speed"), "claim n/c: selector #0: CEL runtime error: no such key: speed"),
        (json!({}), ""),
    ] {
        assert_eq!(check(&three(), devices.clone()), expected, "{devices}");
    }
}

#[test]
fn the_first_alternative_that_can_be_met_is_taken() {
    let first = |count: i64| {
        json!({"requests": [{"name": "r", "firstAvailable": [
            {"name": "many", "deviceClassName": "small", "count": count}, {"name": "one", "deviceClassName": "any"}]}]})
    };
    assert_eq!(check(&three(), first(2)), "r/many:b r/many:c");
    assert_eq!(check(&three(), first(3)), "r/one:a");
}

#[test]
fn constraints_send_the_search_back() {
    let two = |constraint: Value| {
        json!({"requests": [{"name": "x", "exactly": {"deviceClassName": "any"}}, {"name": "y", "exactly": {"deviceClassName": "small"}}],
            "constraints": [constraint]})
    };
    assert_eq!(check(&three(), two(json!({"matchAttribute": "gpu.example.com/numa"}))), "x:a y:c");
    assert_eq!(check(&three(), two(json!({"matchAttribute": "gpu.example.com/model"}))), "x:b y:c");
    assert_eq!(check(&three(), two(json!({"matchAttribute": "gpu.example.com/other"}))), "none");
    assert_eq!(check(&three(), two(json!({"matchAttribute": "gpu.example.com/other", "requests": ["none"]}))), "x:a y:b");
    assert_eq!(check(&three(), two(json!({"distinctAttribute": "gpu.example.com/numa"}))), "x:a y:b");
}

#[test]
fn what_somebody_has_nobody_else_gets() {
    let mut taken = Taken::default();
    let first = allocate(&three(), &[], &InUse::default(), exactly(json!({"count": 2}))).unwrap().unwrap();
    taken.decide(&key(), "u", &first);
    assert!(taken.is_pending(&key()));
    let used = taken.in_use(&ClusterName::root());
    assert_eq!(shown(allocate(&three(), &[], &used, exactly(json!({})))), "r:c");
    assert_eq!(shown(allocate(&three(), &[], &used, exactly(json!({"allocationMode": "All"})))), "none");
    assert_eq!(shown(allocate(&three(), &[], &used, exactly(json!({"allocationMode": "All", "adminAccess": true})))), "r:a r:b r:c");
    let elsewhere = taken.in_use(&ClusterName::hosted("team", "edge").unwrap());
    assert_eq!(shown(allocate(&three(), &[], &elsewhere, exactly(json!({})))), "r:a");
    // The API has not seen it yet, and then it has, and then it is taken back.
    let mut shows = (*claim(exactly(json!({})))).clone();
    taken.claim_changed(&key(), Some(&shows));
    assert!(taken.is_pending(&key()));
    shows.status = Some(k8s_openapi::api::resource::v1::ResourceClaimStatus { allocation: Some(first), ..Default::default() });
    taken.claim_changed(&key(), Some(&shows));
    taken.undo(&key());
    assert_eq!(shown(allocate(&three(), &[], &taken.in_use(&ClusterName::root()), exactly(json!({})))), "r:c");
    shows.status = None;
    taken.claim_changed(&key(), Some(&shows));
    assert_eq!(shown(allocate(&three(), &[], &taken.in_use(&ClusterName::root()), exactly(json!({})))), "r:a");
}

#[test]
fn only_the_newest_whole_pools_count() {
    let part =
        |generation: i64, count: i64, name: &str| slice(json!({"pool": {"generation": generation, "resourceSliceCount": count}, "devices": [{"name": name}]}));
    assert_eq!(check(&[part(1, 1, "old"), part(2, 1, "new")], exactly(json!({"count": 1}))), "r:new");
    assert_eq!(check(&[part(1, 1, "old"), part(2, 2, "new")], exactly(json!({}))), "none");
    let all = exactly(json!({"allocationMode": "All"}));
    assert_eq!(
        check(&[part(1, 2, "x")], all.clone()),
        "claim n/c, request r: asks for all devices, but resource pool gpu.example.com/n1 is currently being updated"
    );
    assert_eq!(
        check(&[part(1, 2, "x"), part(1, 2, "x")], all),
        "claim n/c, request r: asks for all devices, but resource pool gpu.example.com/n1 is currently invalid"
    );
    assert_eq!(check(&[part(1, 2, "x"), part(1, 2, "y")], exactly(json!({"count": 2}))), "r:x r:y");
}

#[test]
fn devices_are_where_their_slices_say() {
    let labelled = json!({"nodeSelectorTerms": [{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["n1"]}]}]});
    let others = json!({"nodeSelectorTerms": [{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["n2"]}]}]});
    let with = |place: Value| {
        let mut spec = json!({"nodeName": null, "devices": [{"name": "x"}]});
        crate::testing::merge(&mut spec, place);
        slice(spec)
    };
    assert_eq!(check(&[with(json!({"nodeName": "n2"}))], exactly(json!({}))), "none");
    assert_eq!(check(&[with(json!({"nodeSelector": others}))], exactly(json!({}))), "none");
    let nodes = |place: Value| {
        let found = allocate(&[with(place)], &[], &InUse::default(), exactly(json!({}))).unwrap().unwrap();
        serde_json::to_value(found.node_selector).unwrap()
    };
    assert_eq!(nodes(json!({"nodeSelector": labelled})), labelled);
    assert_eq!(nodes(json!({"allNodes": true})), Value::Null);
    let by_name = json!({"nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}]});
    assert_eq!(nodes(json!({"nodeName": "n1"})), by_name);
    let each = json!({"perDeviceNodeSelection": true, "devices": [{"name": "there", "nodeName": "n2"}, {"name": "here", "nodeName": "n1"}]});
    assert_eq!(check(&[with(each)], exactly(json!({}))), "r:here");
}

#[test]
fn taints_keep_away_whoever_does_not_tolerate_them() {
    let tainted = [slice(json!({"devices": [device("x", json!({"taints": [{"key": "sick", "value": "v", "effect": "NoSchedule"}]})),
        device("y", json!({"taints": [{"key": "told", "effect": "None"}]}))]}))];
    assert_eq!(check(&tainted, exactly(json!({}))), "r:y");
    let tolerating = |toleration: Value| exactly(json!({"tolerations": [toleration]}));
    assert_eq!(check(&tainted, tolerating(json!({"key": "sick", "operator": "Equal", "value": "v"}))), "r:x");
    assert_eq!(check(&tainted, tolerating(json!({"key": "sick", "operator": "Equal", "value": "w"}))), "r:y");
    assert_eq!(check(&tainted, tolerating(json!({"operator": "Exists"}))), "r:x");
    let rule = |selector: Value| -> Arc<DeviceTaintRule> {
        Arc::new(
            serde_json::from_value(json!({"metadata": {"name": "rule"}, "spec": {"deviceSelector": selector, "taint": {"key": "k", "effect": "NoExecute"}}}))
                .unwrap(),
        )
    };
    let by_rule = |selector: Value| shown(allocate(&three(), &[rule(selector)], &InUse::default(), exactly(json!({}))));
    assert_eq!(by_rule(json!({"driver": "gpu.example.com", "device": "a"})), "r:b");
    assert_eq!(by_rule(json!({"driver": "gpu.example.com"})), "none");
    assert_eq!(by_rule(json!({"driver": "other.example.com"})), "r:a");
    assert_eq!(by_rule(Value::Null), "r:a");
}

#[test]
fn partitions_share_the_counters_of_their_pool() {
    let taking = |name: &str, memory: &str| device(name, json!({"consumesCounters": [{"counterSet": "gpu", "counters": {"memory": {"value": memory}}}]}));
    let pool = json!({"generation": 1, "resourceSliceCount": 2});
    let slices = [
        slice(json!({"pool": pool, "sharedCounters": [{"name": "gpu", "counters": {"memory": {"value": "40Gi"}}}]})),
        slice(json!({"pool": pool, "devices": [taking("whole", "40Gi"), taking("half-1", "20Gi"), taking("half-2", "20Gi")]})),
    ];
    assert_eq!(check(&slices, exactly(json!({}))), "r:whole");
    assert_eq!(check(&slices, exactly(json!({"count": 2}))), "r:half-1 r:half-2");
    assert_eq!(check(&slices, exactly(json!({"count": 3}))), "none");
    let mut taken = Taken::default();
    taken.decide(&key(), "u", &allocate(&slices, &[], &InUse::default(), exactly(json!({}))).unwrap().unwrap());
    assert_eq!(shown(allocate(&slices, &[], &taken.in_use(&ClusterName::root()), exactly(json!({})))), "none");
}

#[test]
fn a_shared_device_is_given_in_parts() {
    let slices = [slice(json!({"devices": [device("x", json!({"allowMultipleAllocations": true,
        "capacity": {"memory": {"value": "10Gi", "requestPolicy": {"default": "1Gi", "validRange": {"min": "1Gi", "step": "1Gi"}}}}}))]}))];
    let asking = |amount: &str| exactly(json!({"capacity": {"requests": {"memory": amount}}}));
    let mut taken = Taken::default();
    let first = allocate(&slices, &[], &InUse::default(), asking("5500Mi")).unwrap().unwrap();
    let result = &first.devices.as_ref().unwrap().results.as_ref().unwrap()[0];
    assert_eq!(result.consumed_capacity.as_ref().unwrap()["memory"].0, "6Gi");
    assert_eq!(result.share_id.as_ref().unwrap().len(), 36);
    taken.decide(&key(), "u", &first);
    let used = taken.in_use(&ClusterName::root());
    assert_eq!(shown(allocate(&slices, &[], &used, asking("4Gi"))), "r:x");
    assert_eq!(shown(allocate(&slices, &[], &used, asking("5Gi"))), "none");
    assert_eq!(shown(allocate(&slices, &[], &used, exactly(json!({"capacity": {"requests": {"cores": "1"}}})))), "none");
}

#[test]
fn drivers_are_told_what_class_and_claim_say() {
    let mut devices = exactly(json!({"deviceClassName": "small"}));
    devices["config"] = json!([{"requests": ["r"], "opaque": {"driver": "gpu.example.com", "parameters": {"b": 2}}},
        {"requests": ["other"], "opaque": {"driver": "gpu.example.com", "parameters": {"c": 3}}}]);
    let found = allocate(&three(), &[], &InUse::default(), devices).unwrap().unwrap();
    let config: Vec<Value> = found.devices.unwrap().config.unwrap().iter().map(|config| serde_json::to_value(config).unwrap()).collect();
    assert_eq!(
        config,
        [
            json!({"source": "FromClass", "requests": ["r"], "opaque": {"driver": "gpu.example.com", "parameters": {"a": 1}}}),
            json!({"source": "FromClaim", "requests": ["r"], "opaque": {"driver": "gpu.example.com", "parameters": {"b": 2}}}),
        ]
    );
}

#[test]
fn a_search_without_an_end_is_given_up() {
    let devices: Vec<Value> = (0..60).map(|n| device(&format!("d{n}"), json!({"attributes": {"n": {"int": n}}}))).collect();
    let slices = [slice(json!({"devices": devices}))];
    let requests: Vec<Value> = (0..8).map(|n| json!({"name": format!("r{n}"), "exactly": {"deviceClassName": "any"}})).collect();
    let pairs: Vec<Value> = vec![json!({"requests": ["r6", "r7"], "matchAttribute": "gpu.example.com/n"})];
    assert_eq!(check(&slices, json!({"requests": requests, "constraints": pairs})), "timed out trying to allocate devices");
}
