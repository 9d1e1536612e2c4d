//! Pod resources: what a whole pod requests or is limited to.
use api_meta::Quantity;
use k8s_openapi::api::core::v1::{PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as WireQuantity;
use std::collections::BTreeMap;

pub type Resources = BTreeMap<String, Quantity>;

/// Which of a container's lists to add up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// With limits in place of requests that are not given.
    Requests,
    Limits,
}

/// Parses a resource list; what is no quantity counts as nothing, the server lets none in.
pub fn parse(list: Option<&BTreeMap<String, WireQuantity>>) -> Resources {
    let parsed = list.into_iter().flatten().filter_map(|(name, quantity)| Some((name.clone(), Quantity::parse(&quantity.0).ok()?)));
    parsed.collect()
}

fn of(requirements: Option<&ResourceRequirements>, kind: Kind) -> Resources {
    let Some(requirements) = requirements else { return Resources::new() };
    let limits = parse(requirements.limits.as_ref());
    match kind {
        Kind::Limits => limits,
        Kind::Requests => {
            let mut requests = limits;
            requests.extend(parse(requirements.requests.as_ref()));
            requests
        }
    }
}

pub fn add(into: &mut Resources, other: &Resources) {
    for (name, quantity) in other {
        let sum = into.get(name).map_or(*quantity, |have| *have + *quantity);
        into.insert(name.clone(), sum);
    }
}

fn raise(into: &mut Resources, other: &Resources) {
    for (name, quantity) in other {
        if into.get(name).is_none_or(|have| have < quantity) {
            into.insert(name.clone(), *quantity);
        }
    }
}

/// The pod's own need: its containers and sidecars together or its hungriest init container with the
/// sidecars started before it, whichever is more; pod-level amounts in place of both; and the overhead.
pub fn pod_resources(spec: &PodSpec, kind: Kind) -> Resources {
    let mut total = Resources::new();
    for container in &spec.containers {
        add(&mut total, &of(container.resources.as_ref(), kind));
    }
    let (mut sidecars, mut init) = (Resources::new(), Resources::new());
    for container in spec.init_containers.iter().flatten() {
        let mut need = of(container.resources.as_ref(), kind);
        if container.restart_policy.as_deref() == Some("Always") {
            add(&mut total, &need);
            add(&mut sidecars, &need);
            need = sidecars.clone();
        } else {
            add(&mut need, &sidecars);
        }
        raise(&mut init, &need);
    }
    raise(&mut total, &init);
    if spec.resources.is_some() {
        let pod_level = of(spec.resources.as_ref(), kind);
        total.extend(pod_level.into_iter().filter(|(name, _)| name == "cpu" || name == "memory" || name.starts_with("hugepages-")));
    }
    if kind == Kind::Requests || !total.is_empty() {
        let overhead = parse(spec.overhead.as_ref());
        // Overhead raises limits only where there are some.
        let counts = |name: &String| kind == Kind::Requests || total.contains_key(name);
        let overhead: Resources = overhead.into_iter().filter(|(name, _)| counts(name)).collect();
        add(&mut total, &overhead);
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn cpu(spec: serde_json::Value, kind: Kind) -> String {
        pod_resources(&serde_json::from_value(spec).unwrap(), kind).get("cpu").map(ToString::to_string).unwrap_or_default()
    }

    #[test]
    fn init_containers_count_by_their_peak_and_sidecars_throughout() {
        let container = |cpu: &str, restart: Option<&str>| json!({"name": "c", "restartPolicy": restart, "resources": {"requests": {"cpu": cpu}}});
        let of = |init: Vec<serde_json::Value>| {
            cpu(json!({"containers": [container("1", None), container("500m", None)], "initContainers": init, "overhead": {"cpu": "100m"}}), Kind::Requests)
        };
        assert_eq!(of(vec![]), "1600m");
        assert_eq!(of(vec![container("3", None)]), "3100m");
        assert_eq!(of(vec![container("1", Some("Always"))]), "2600m");
        assert_eq!(of(vec![container("1", Some("Always")), container("2", None)]), "3100m");
        assert_eq!(of(vec![container("2", None), container("1", Some("Always"))]), "2600m");
    }

    #[test]
    fn limits_stand_in_for_requests_and_pod_level_amounts_for_all() {
        let spec = json!({"containers": [{"name": "c", "resources": {"limits": {"cpu": "2"}}}]});
        assert_eq!((cpu(spec.clone(), Kind::Requests), cpu(spec, Kind::Limits)), ("2".into(), "2".into()));
        let spec = json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "2"}}}], "resources": {"requests": {"cpu": "3"}}});
        assert_eq!(cpu(spec, Kind::Requests), "3");
        assert_eq!(cpu(json!({"containers": [{"name": "c"}], "overhead": {"cpu": "1"}}), Kind::Limits), "");
    }
}
