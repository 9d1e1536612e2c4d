//! Pods as admission sees them: their containers, and what they ask for in all.
use crate::request::items;
use api_meta::Quantity;
use serde_json::Value;
use std::collections::BTreeMap;

pub type ResourceList = BTreeMap<String, Quantity>;

pub const CONTAINER_LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// The containers in these lists of a pod, to be changed.
pub fn containers_mut<'a>(pod: &'a mut Value, lists: &[&str]) -> Vec<&'a mut Value> {
    let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) else { return Vec::new() };
    let mut found: Vec<(usize, &mut Value)> = Vec::new();
    for (key, value) in spec.iter_mut() {
        if let (Some(order), Some(list)) = (lists.iter().position(|wanted| wanted == key), value.as_array_mut()) {
            found.extend(list.iter_mut().map(|container| (order, container)));
        }
    }
    found.sort_by_key(|(order, _)| *order);
    found.into_iter().map(|(_, container)| container).collect()
}

/// A map of resource names to quantities; what can't be parsed was refused by validation before.
pub fn resource_list(value: &Value) -> ResourceList {
    let quantity = |value: &Value| match value {
        Value::String(text) => Quantity::parse(text).ok(),
        Value::Number(number) => Quantity::parse(&number.to_string()).ok(),
        _ => None,
    };
    value.as_object().into_iter().flatten().filter_map(|(name, value)| Some((name.clone(), quantity(value)?))).collect()
}

pub fn add(into: &mut ResourceList, from: &ResourceList) {
    for (name, quantity) in from {
        into.entry(name.clone()).and_modify(|sum| *sum = *sum + *quantity).or_insert(*quantity);
    }
}

pub fn max(into: &mut ResourceList, from: &ResourceList) {
    for (name, quantity) in from {
        into.entry(name.clone()).and_modify(|most| *most = (*most).max(*quantity)).or_insert(*quantity);
    }
}

/// What a pod asks for (`kind` "requests") or is held to ("limits") in all, as upstream sums it:
/// containers and sidecars together, or the largest init container with the sidecars before it if
/// that is more; pod-level figures win; overhead comes on top.
pub fn pod_resources(pod: &Value, kind: &str) -> ResourceList {
    let spec = &pod["spec"];
    let of = |container: &Value| resource_list(&container["resources"][kind]);
    let mut sum = ResourceList::new();
    for container in items(&spec["containers"]) {
        add(&mut sum, &of(container));
    }
    let (mut sidecars, mut init_peak) = (ResourceList::new(), ResourceList::new());
    for container in items(&spec["initContainers"]) {
        let wanted = of(container);
        if container["restartPolicy"] == "Always" {
            add(&mut sum, &wanted);
            add(&mut sidecars, &wanted);
            max(&mut init_peak, &sidecars);
        } else {
            let mut together = sidecars.clone();
            add(&mut together, &wanted);
            max(&mut init_peak, &together);
        }
    }
    max(&mut sum, &init_peak);
    for (name, quantity) in resource_list(&spec["resources"][kind]) {
        sum.insert(name, quantity);
    }
    for (name, quantity) in resource_list(&spec["overhead"]) {
        match sum.get_mut(&name) {
            Some(total) => *total = *total + quantity,
            // Overhead makes no limit where there is none.
            None if kind == "requests" => {
                sum.insert(name, quantity);
            }
            None => {}
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn sidecars_count_with_containers_and_init_containers_only_at_their_peak() {
        let container = |cpu: &str| json!({"resources": {"requests": {"cpu": cpu}}});
        let sidecar = |cpu: &str| json!({"restartPolicy": "Always", "resources": {"requests": {"cpu": cpu}}});
        let check = |spec: Value, want: &str| assert_eq!(pod_resources(&json!({ "spec": spec }), "requests")["cpu"].to_string(), want, "{spec}");
        check(json!({"containers": [container("1"), container("500m")]}), "1500m");
        check(json!({"containers": [container("1")], "initContainers": [container("3"), container("2")]}), "3");
        check(json!({"containers": [container("1")], "initContainers": [sidecar("2"), container("3")]}), "5");
        check(json!({"containers": [container("1")], "initContainers": [sidecar("2")], "overhead": {"cpu": "1"}}), "4");
        check(json!({"containers": [container("1")], "resources": {"requests": {"cpu": "8"}}}), "8");
    }
}
