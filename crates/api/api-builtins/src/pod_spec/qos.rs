//! The quality of service class of a pod, from what it requests and what it is limited to.
use crate::fields::Read;
use api_meta::Quantity;
use serde_json::Value;
use std::collections::BTreeMap;

/// `Guaranteed`, `Burstable` or `BestEffort`.
pub fn class(spec: &Value) -> &'static str {
    let whole = &spec["resources"];
    if !amounts(&whole["requests"]).is_empty() || !amounts(&whole["limits"]).is_empty() {
        return class_of(&amounts(&whole["requests"]), &amounts(&whole["limits"]), true);
    }
    let (mut requests, mut limits, mut all_limited) = (BTreeMap::new(), BTreeMap::new(), true);
    for container in spec["containers"].list().iter().chain(spec["initContainers"].list()) {
        let limited = amounts(&container["resources"]["limits"]);
        all_limited &= limited.contains_key("cpu") && limited.contains_key("memory");
        add(&mut requests, amounts(&container["resources"]["requests"]));
        add(&mut limits, limited);
    }
    class_of(&requests, &limits, all_limited)
}

fn class_of(requests: &BTreeMap<&str, Quantity>, limits: &BTreeMap<&str, Quantity>, all_limited: bool) -> &'static str {
    if requests.is_empty() && limits.is_empty() {
        return "BestEffort";
    }
    let complete = all_limited && limits.contains_key("cpu") && limits.contains_key("memory");
    let equal = requests.len() == limits.len() && requests.iter().all(|(name, request)| limits.get(name) == Some(request));
    if complete && equal { "Guaranteed" } else { "Burstable" }
}

/// The amounts of cpu and memory that are not zero; only these two count.
fn amounts(list: &Value) -> BTreeMap<&str, Quantity> {
    ["cpu", "memory"].into_iter().filter_map(|name| Some((name, Quantity::parse(list[name].as_str()?).ok().filter(|amount| !amount.is_zero())?))).collect()
}

fn add<'a>(sums: &mut BTreeMap<&'a str, Quantity>, amounts: BTreeMap<&'a str, Quantity>) {
    for (name, amount) in amounts {
        sums.entry(name).and_modify(|sum| *sum = *sum + amount).or_insert(amount);
    }
}

/// What the containers of a pod request together: the sum of those that run side by side (sidecars
/// among them), or the largest init container's with the sidecars started before it, if that is more.
pub fn container_requests(spec: &Value) -> BTreeMap<String, Quantity> {
    fn requests(container: &Value) -> impl Iterator<Item = (&String, Quantity)> {
        container["resources"]["requests"].entries().filter_map(|(name, amount)| Some((name, Quantity::parse(amount.as_str()?).ok()?)))
    }
    fn plus(sums: &mut BTreeMap<String, Quantity>, name: &str, amount: Quantity) {
        sums.entry(name.to_owned()).and_modify(|sum| *sum = *sum + amount).or_insert(amount);
    }
    let mut running = BTreeMap::new();
    for (name, amount) in spec["containers"].list().iter().flat_map(requests) {
        plus(&mut running, name, amount);
    }
    let (mut sidecars, mut starting) = (BTreeMap::new(), BTreeMap::<String, Quantity>::new());
    for container in spec["initContainers"].list() {
        let mut at_once: BTreeMap<String, Quantity> = sidecars.clone();
        for (name, amount) in requests(container) {
            plus(&mut at_once, name, amount);
            if container["restartPolicy"] == "Always" {
                plus(&mut sidecars, name, amount);
                plus(&mut running, name, amount);
            }
        }
        for (name, amount) in at_once {
            let most = starting.entry(name).or_insert(amount);
            *most = (*most).max(amount);
        }
    }
    for (name, amount) in starting {
        let most = running.entry(name).or_insert(amount);
        *most = (*most).max(amount);
    }
    running
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn classes_follow_requests_and_limits() {
        let pod = |containers: Value| json!({ "containers": containers });
        let one = |resources: Value| pod(json!([{ "resources": resources }]));
        for (spec, want) in [
            (one(json!({})), "BestEffort"),
            (one(json!({"requests": {"cpu": "0"}})), "BestEffort"),
            (one(json!({"requests": {"example.com/gpu": "1"}})), "BestEffort"),
            (one(json!({"requests": {"cpu": "1"}})), "Burstable"),
            (one(json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1000m", "memory": "1024Mi"}})), "Guaranteed"),
            (one(json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "2", "memory": "1Gi"}})), "Burstable"),
            (pod(json!([{"resources": {"requests": {"cpu": "1", "memory": "1"}, "limits": {"cpu": "1", "memory": "1"}}}, {}])), "Burstable"),
        ] {
            assert_eq!(class(&spec), want, "{spec}");
        }
    }

    #[test]
    fn sidecars_run_beside_the_containers() {
        let container = |cpu: &str| json!({"resources": {"requests": {"cpu": cpu}}});
        let mut sidecar = container("1");
        sidecar["restartPolicy"] = "Always".into();
        let spec = json!({"containers": [container("2"), container("500m")], "initContainers": [sidecar, container("3")]});
        assert_eq!(container_requests(&spec)["cpu"], Quantity::from_units(4));
    }
}
