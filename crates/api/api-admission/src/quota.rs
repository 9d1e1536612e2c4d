//! Quota arithmetic: what an object charges, and which quotas it concerns.
use crate::pod::{ResourceList, pod_resources, resource_list};
use crate::request::items;
use api_meta::{GroupResource, Quantity};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

const STORAGE_CLASS_SUFFIX: &str = ".storageclass.storage.k8s.io/";
/// Core resources that are also counted by their bare name.
const COUNTED_BY_NAME: [&str; 4] = ["configmaps", "replicationcontrollers", "resourcequotas", "secrets"];
/// If one of these is in a quota, every container must say what it needs of it.
const MUST_BE_SAID: [&str; 6] = ["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];

/// What an object charges to the quotas of its namespace, by quota resource name.
pub fn usage(resource: &GroupResource, object: &Value, now: Timestamp) -> ResourceList {
    let one = Quantity::from_units(1);
    let mut used = ResourceList::from([(format!("count/{resource}"), one)]);
    match (resource.group.as_str(), resource.resource.as_str()) {
        ("", "pods") if is_charged(object, now) => used.extend(pod_usage(object)),
        ("", "services") => used.extend(service_usage(object)),
        ("", "persistentvolumeclaims") => used.extend(claim_usage(object)),
        ("resource.k8s.io", "resourceclaims") => used.extend(device_usage(object)),
        ("", name) if COUNTED_BY_NAME.contains(&name) => {
            used.insert(name.to_owned(), one);
        }
        _ => {}
    }
    used
}

/// A finished pod, or one that should be gone by now, charges nothing but its existence.
fn is_charged(pod: &Value, now: Timestamp) -> bool {
    if matches!(pod["status"]["phase"].as_str(), Some("Failed" | "Succeeded")) {
        return false;
    }
    let deleted = pod["metadata"]["deletionTimestamp"].as_str().and_then(|at| at.parse::<Timestamp>().ok());
    match (deleted, pod["metadata"]["deletionGracePeriodSeconds"].as_i64()) {
        (Some(deleted), Some(grace)) => deleted.checked_add(SignedDuration::from_secs(grace)).is_ok_and(|end| now <= end),
        _ => true,
    }
}

fn pod_usage(pod: &Value) -> ResourceList {
    let mut used = compute_usage(&pod_resources(pod, "requests"), &pod_resources(pod, "limits"));
    used.insert("pods".into(), Quantity::from_units(1));
    used
}

/// Requests and limits under the names quotas know them by.
fn compute_usage(requests: &ResourceList, limits: &ResourceList) -> ResourceList {
    let mut used = ResourceList::new();
    for (name, quantity) in requests {
        let plain = matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-");
        if plain {
            used.insert(name.clone(), *quantity);
        }
        // Extended resources are those with a domain.
        if plain || name.contains('/') {
            used.insert(format!("requests.{name}"), *quantity);
        }
    }
    for name in ["cpu", "memory", "ephemeral-storage"] {
        if let Some(quantity) = limits.get(name) {
            used.insert(format!("limits.{name}"), *quantity);
        }
    }
    used
}

fn service_usage(service: &Value) -> ResourceList {
    let count = |n: usize| Quantity::from_units(i64::try_from(n).unwrap_or(i64::MAX));
    let ports = items(&service["spec"]["ports"]);
    let (node_ports, balancers) = match service["spec"]["type"].as_str() {
        Some("NodePort") => (ports.len(), 0),
        Some("LoadBalancer") if service["spec"]["allocateLoadBalancerNodePorts"] == false => {
            (ports.iter().filter(|port| port["nodePort"].as_i64().is_some_and(|port| port != 0)).count(), 1)
        }
        Some("LoadBalancer") => (ports.len(), 1),
        _ => (0, 0),
    };
    [("services", 1), ("services.nodeports", node_ports), ("services.loadbalancers", balancers)].map(|(name, n)| (name.to_owned(), count(n))).into()
}

fn claim_usage(claim: &Value) -> ResourceList {
    let one = Quantity::from_units(1);
    let mut used = ResourceList::from([("persistentvolumeclaims".to_owned(), one)]);
    let annotation = claim["metadata"]["annotations"]["volume.beta.kubernetes.io/storage-class"].as_str();
    let class = annotation.or(claim["spec"]["storageClassName"].as_str()).filter(|class| !class.is_empty());
    if let Some(class) = class {
        used.insert(format!("{class}{STORAGE_CLASS_SUFFIX}persistentvolumeclaims"), one);
    }
    if let Some(storage) = resource_list(&claim["spec"]["resources"]["requests"]).get("storage") {
        used.insert("requests.storage".into(), *storage);
        if let Some(class) = class {
            used.insert(format!("{class}{STORAGE_CLASS_SUFFIX}requests.storage"), *storage);
        }
    }
    used
}

/// The most devices a request for all of them can come to.
const ALL_DEVICES: i64 = 32;

/// The devices a claim may get, by their class; of alternatives the largest of each class.
fn device_usage(claim: &Value) -> ResourceList {
    let count = |request: &Value| match request["allocationMode"].as_str() {
        Some("All") => ALL_DEVICES,
        _ => request["count"].as_i64().unwrap_or(1),
    };
    let mut used: BTreeMap<String, i64> = BTreeMap::new();
    for request in items(&claim["spec"]["devices"]["requests"]) {
        let mut most: BTreeMap<&str, i64> = BTreeMap::new();
        let exactly = std::iter::once(&request["exactly"]).filter(|exactly| exactly.is_object());
        for alternative in exactly.chain(items(&request["firstAvailable"])) {
            let class = most.entry(alternative["deviceClassName"].as_str().unwrap_or_default()).or_default();
            *class = (*class).max(count(alternative));
        }
        for (class, count) in most.into_iter().filter(|(class, _)| !class.is_empty()) {
            let sum = used.entry(format!("{class}.deviceclass.resource.k8s.io/devices")).or_default();
            *sum = sum.saturating_add(count);
        }
    }
    used.into_iter().map(|(name, count)| (name, Quantity::from_units(count))).collect()
}

/// Why a pod may not go under a quota with these hard limits: a container leaves out what is limited.
pub fn unsaid(hard: &ResourceList, pod: &Value) -> Option<String> {
    let required: Vec<&str> = MUST_BE_SAID.into_iter().filter(|name| hard.contains_key(*name)).collect();
    let said_by_pod = compute_usage(&resource_list(&pod["spec"]["resources"]["requests"]), &resource_list(&pod["spec"]["resources"]["limits"]));
    let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for container in ["containers", "initContainers"].into_iter().flat_map(|list| items(&pod["spec"][list])) {
        let said = compute_usage(&resource_list(&container["resources"]["requests"]), &resource_list(&container["resources"]["limits"]));
        for name in required.iter().filter(|name| !said.contains_key(**name) && !said_by_pod.contains_key(**name)) {
            missing.entry(*name).or_default().insert(container["name"].as_str().unwrap_or_default());
        }
    }
    if missing.is_empty() {
        return None;
    }
    let texts: Vec<String> = missing.iter().map(|(name, of)| format!("{name} for: {}", of.iter().copied().collect::<Vec<_>>().join(","))).collect();
    Some(format!("must specify {}", texts.join("; ")))
}

/// Whether a quota's scopes take in this object. One is about claims, the others are about pods: a quota with any concerns nothing else.
pub fn in_scope(quota: &Value, resource: &GroupResource, object: &Value) -> bool {
    let scopes = items(&quota["spec"]["scopes"]).iter().map(|scope| (scope.as_str().unwrap_or_default(), "Exists", &Value::Null));
    let selected = items(&quota["spec"]["scopeSelector"]["matchExpressions"])
        .iter()
        .map(|expression| (expression["scopeName"].as_str().unwrap_or_default(), expression["operator"].as_str().unwrap_or_default(), &expression["values"]));
    let is_pod = resource.group.is_empty() && resource.resource == "pods";
    let is_claim = resource.group.is_empty() && resource.resource == "persistentvolumeclaims";
    scopes.chain(selected).all(|(scope, operator, values)| match scope {
        "VolumeAttributesClass" => is_claim && attributes_class_in_scope(object, operator, values),
        _ => is_pod && pod_in_scope(object, scope, operator, values),
    })
}

/// A claim counts under each class it has, is to have, or is being given.
fn attributes_class_in_scope(claim: &Value, operator: &str, values: &Value) -> bool {
    let status = &claim["status"];
    let named = [
        &claim["spec"]["volumeAttributesClassName"],
        &status["currentVolumeAttributesClassName"],
        &status["modifyVolumeStatus"]["targetVolumeAttributesClassName"],
    ];
    let classes: BTreeSet<&str> = named.into_iter().filter_map(Value::as_str).filter(|class| !class.is_empty()).collect();
    let listed = || classes.iter().any(|class| items(values).iter().any(|value| value == class));
    match operator {
        "In" => listed(),
        "NotIn" => !listed(),
        "Exists" => !classes.is_empty(),
        "DoesNotExist" => classes.is_empty(),
        _ => false,
    }
}

fn pod_in_scope(pod: &Value, scope: &str, operator: &str, values: &Value) -> bool {
    let spec = &pod["spec"];
    let terminating = spec["activeDeadlineSeconds"].as_i64().is_some_and(|seconds| seconds >= 0);
    match scope {
        "Terminating" => terminating,
        "NotTerminating" => !terminating,
        "BestEffort" => is_best_effort(spec),
        "NotBestEffort" => !is_best_effort(spec),
        "CrossNamespacePodAffinity" => crosses_namespaces(&spec["affinity"]),
        "PriorityClass" => {
            let class = spec["priorityClassName"].as_str().filter(|class| !class.is_empty());
            let listed = || class.is_some_and(|class| items(values).iter().any(|value| value == class));
            match operator {
                "In" => listed(),
                "NotIn" => !listed(),
                "Exists" => class.is_some(),
                "DoesNotExist" => class.is_none(),
                _ => false,
            }
        }
        _ => false,
    }
}

fn is_best_effort(spec: &Value) -> bool {
    let says = |resources: &Value| {
        ["requests", "limits"].iter().any(|kind| {
            let list = resource_list(&resources[kind]);
            ["cpu", "memory"].iter().any(|name| list.get(*name).is_some_and(|quantity| !quantity.is_zero()))
        })
    };
    !says(&spec["resources"])
        && !["containers", "initContainers"].into_iter().flat_map(|list| items(&spec[list])).any(|container| says(&container["resources"]))
}

fn crosses_namespaces(affinity: &Value) -> bool {
    let crosses = |term: &Value| !items(&term["namespaces"]).is_empty() || !term["namespaceSelector"].is_null();
    ["podAffinity", "podAntiAffinity"].iter().any(|kind| {
        let affinity = &affinity[kind];
        items(&affinity["requiredDuringSchedulingIgnoredDuringExecution"]).iter().any(crosses)
            || items(&affinity["preferredDuringSchedulingIgnoredDuringExecution"]).iter().any(|weighted| crosses(&weighted["podAffinityTerm"]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(resource: &str, object: Value, want: Value) {
        let used = usage(&GroupResource::new("", resource), &object, "2026-01-02T03:04:05Z".parse().unwrap());
        let used: BTreeMap<String, String> = used.into_iter().map(|(name, quantity)| (name, quantity.to_string())).collect();
        assert_eq!(serde_json::to_value(used).unwrap(), want);
    }

    #[test]
    fn objects_charge_what_upstream_says() {
        let resources = json!({"requests": {"cpu": "1", "example.com/gpu": "2"}, "limits": {"memory": "1Gi"}});
        let pod = |phase: &str| json!({"spec": {"containers": [{"resources": resources}]}, "status": {"phase": phase}});
        check(
            "pods",
            pod("Running"),
            json!({"count/pods": "1", "pods": "1", "cpu": "1", "requests.cpu": "1", "requests.example.com/gpu": "2", "limits.memory": "1Gi"}),
        );
        check("pods", pod("Succeeded"), json!({"count/pods": "1"}));
        check(
            "services",
            json!({"spec": {"type": "LoadBalancer", "ports": [{}, {}]}}),
            json!({"count/services": "1", "services": "1", "services.nodeports": "2", "services.loadbalancers": "1"}),
        );
        check(
            "persistentvolumeclaims",
            json!({"spec": {"storageClassName": "fast", "resources": {"requests": {"storage": "1Gi"}}}}),
            json!({"count/persistentvolumeclaims": "1", "persistentvolumeclaims": "1", "requests.storage": "1Gi",
                "fast.storageclass.storage.k8s.io/persistentvolumeclaims": "1", "fast.storageclass.storage.k8s.io/requests.storage": "1Gi"}),
        );
        let claim = json!({"spec": {"devices": {"requests": [
            {"exactly": {"deviceClassName": "gpu", "count": 2}},
            {"firstAvailable": [{"deviceClassName": "gpu"}, {"deviceClassName": "fpga", "allocationMode": "All"}]},
        ]}}});
        let used = usage(&GroupResource::new("resource.k8s.io", "resourceclaims"), &claim, "2026-01-02T03:04:05Z".parse().unwrap());
        let devices = |class: &str| used[&format!("{class}.deviceclass.resource.k8s.io/devices")].to_string();
        assert_eq!((devices("gpu"), devices("fpga")), ("3".to_owned(), "32".to_owned()));
        check("secrets", json!({}), json!({"count/secrets": "1", "secrets": "1"}));
    }

    #[test]
    fn scopes_choose_pods() {
        let pods = GroupResource::new("", "pods");
        let limited = json!({"containers": [{"resources": {"limits": {"cpu": "1"}}}]});
        for (scope, spec, want) in [
            (json!({}), json!({}), true),
            (json!({"scopes": ["BestEffort"]}), json!({}), true),
            (json!({"scopes": ["BestEffort"]}), limited.clone(), false),
            (json!({"scopes": ["NotBestEffort"]}), limited, true),
            (json!({"scopes": ["Terminating"]}), json!({"activeDeadlineSeconds": 5}), true),
            (json!({"scopes": ["NotTerminating"]}), json!({"activeDeadlineSeconds": 5}), false),
            (
                json!({"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}]}}),
                json!({"priorityClassName": "high"}),
                true,
            ),
            (json!({"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "Exists"}]}}), json!({}), false),
        ] {
            assert_eq!(in_scope(&json!({ "spec": scope }), &pods, &json!({ "spec": spec })), want, "{scope} {spec}");
        }
        assert!(!in_scope(&json!({"spec": {"scopes": ["BestEffort"]}}), &GroupResource::new("", "services"), &json!({})));
        let quota = json!({"spec": {"scopeSelector": {"matchExpressions": [{"scopeName": "VolumeAttributesClass", "operator": "In", "values": ["gold"]}]}}});
        let claims = GroupResource::new("", "persistentvolumeclaims");
        assert!(in_scope(&quota, &claims, &json!({"spec": {"volumeAttributesClassName": "gold"}})));
        assert!(!in_scope(&quota, &claims, &json!({"spec": {}})));
    }
}
