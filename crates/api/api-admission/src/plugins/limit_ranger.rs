//! LimitRanger: a namespace's LimitRanges give containers their defaults and hold pods and claims in bounds.
use crate::plugins::aggregate;
use crate::pod::{ResourceList, containers_mut, pod_resources, resource_list};
use crate::request::{entry_object, items};
use crate::{AdmissionRequest, Operation, Plugin};
use api_meta::{ClusterName, GroupResource, Object, Quantity, Status};
use api_resource::Lookup;
use async_trait::async_trait;
use serde_json::Value;
use std::sync::Arc;

const ANNOTATION: &str = "kubernetes.io/limit-ranger";

pub struct LimitRanger;

#[async_trait]
impl Plugin for LimitRanger {
    fn name(&self) -> &'static str {
        "LimitRanger"
    }

    async fn mutate(&self, request: &mut AdmissionRequest<'_>, lookup: &dyn Lookup) -> Result<(), Status> {
        if !request.is("", "pods") || request.operation != Operation::Create {
            return Ok(());
        }
        for range in limit_ranges(request, lookup).await? {
            set_defaults(request.object.get_or_insert_default(), range.value());
        }
        Ok(())
    }

    async fn validate(&self, request: &mut AdmissionRequest<'_>, lookup: &dyn Lookup) -> Result<(), Status> {
        let concerned = match (request.group, request.resource, request.subresource) {
            // Resources of a running pod change only through `resize`.
            ("", "pods", "") => request.operation == Operation::Create,
            ("", "pods", "resize") => request.operation == Operation::Update,
            ("", "persistentvolumeclaims", "") => matches!(request.operation, Operation::Create | Operation::Update),
            _ => false,
        };
        if !concerned {
            return Ok(());
        }
        for range in limit_ranges(request, lookup).await? {
            let errors = match request.resource {
                "pods" => pod_errors(request.object(), range.value()),
                _ => claim_errors(request.object(), range.value()),
            };
            if !errors.is_empty() {
                return Err(request.forbidden(aggregate(&errors)));
            }
        }
        Ok(())
    }
}

async fn limit_ranges(request: &AdmissionRequest<'_>, lookup: &dyn Lookup) -> Result<Vec<Arc<Object>>, Status> {
    let resource = GroupResource::new("", "limitranges");
    let mut ranges = lookup.list(request.cluster, &resource, Some(request.namespace)).await?;
    // What a virtual cluster runs is also bound by the namespace it is hosted in.
    if let Some((namespace, _)) = request.cluster.host_object() {
        ranges.extend(lookup.list(&ClusterName::root(), &resource, Some(namespace)).await?);
    }
    Ok(ranges)
}

fn limits<'a>(range: &'a Value, kind: &'a str) -> impl Iterator<Item = &'a Value> {
    items(&range["spec"]["limits"]).iter().filter(move |limit| limit["type"] == kind)
}

fn set_defaults(pod: &mut Value, range: &Value) {
    let mut notes = Vec::new();
    for (list, what) in [("containers", "container"), ("initContainers", "init container")] {
        for container in containers_mut(pod, &[list]) {
            let name = container["name"].as_str().unwrap_or_default().to_owned();
            for (of, default) in [("requests", "defaultRequest"), ("limits", "default")] {
                let mut set = Vec::new();
                for (resource, quantity) in limits(range, "Container").flat_map(|limit| limit[default].as_object().into_iter().flatten()) {
                    let resources = entry_object(container, "resources");
                    let slot = resources.entry(of).or_insert_with(|| Value::Object(Default::default()));
                    if slot.get(resource).is_none() {
                        slot[resource] = quantity.clone();
                        set.push(resource.as_str());
                    }
                }
                if !set.is_empty() {
                    set.sort_unstable();
                    notes.push(format!("{} {} for {what} {name}", set.join(", "), of.trim_end_matches('s')));
                }
            }
        }
    }
    if !notes.is_empty() {
        let annotations = entry_object(entry_object_value(pod, "metadata"), "annotations");
        annotations.insert(ANNOTATION.into(), format!("LimitRanger plugin set: {}", notes.join("; ")).into());
    }
}

fn entry_object_value<'a>(value: &'a mut Value, key: &str) -> &'a mut Value {
    entry_object(value, key);
    &mut value[key]
}

fn pod_errors(pod: &Value, range: &Value) -> Vec<String> {
    let mut errors = Vec::new();
    for limit in limits(range, "Container") {
        for container in ["containers", "initContainers"].into_iter().flat_map(|list| items(&pod["spec"][list])) {
            let resources = &container["resources"];
            check(limit, "Container", &resource_list(&resources["requests"]), &resource_list(&resources["limits"]), &mut errors);
        }
    }
    for limit in limits(range, "Pod") {
        check(limit, "Pod", &pod_resources(pod, "requests"), &pod_resources(pod, "limits"), &mut errors);
    }
    errors
}

fn claim_errors(claim: &Value, range: &Value) -> Vec<String> {
    let requests = resource_list(&claim["spec"]["resources"]["requests"]);
    let mut errors = Vec::new();
    for limit in limits(range, "PersistentVolumeClaim") {
        let kind = "PersistentVolumeClaim";
        for (name, least) in resource_list(&limit["min"]) {
            errors.extend(minimum(&name, kind, least, requests.get(&name).copied(), None));
        }
        for (name, most) in resource_list(&limit["max"]) {
            match requests.get(&name) {
                None => errors.push(format!("maximum {name} usage per {kind} is {most}.  No request is specified")),
                Some(request) if *request > most => errors.push(format!("maximum {name} usage per {kind} is {most}, but request is {request}")),
                Some(_) => {}
            }
        }
    }
    errors
}

fn check(limit: &Value, kind: &str, requests: &ResourceList, limits: &ResourceList, errors: &mut Vec<String>) {
    for (name, least) in resource_list(&limit["min"]) {
        errors.extend(minimum(&name, kind, least, requests.get(&name).copied(), limits.get(&name).copied()));
    }
    for (name, most) in resource_list(&limit["max"]) {
        let start = format!("maximum {name} usage per {kind} is {most}");
        match (limits.get(&name), requests.get(&name)) {
            (None, _) => errors.push(format!("{start}.  No limit is specified")),
            (Some(limit), _) if *limit > most => errors.push(format!("{start}, but limit is {limit}")),
            (_, Some(request)) if *request > most => errors.push(format!("{start}, but request is {request}")),
            _ => {}
        }
    }
    for (name, most) in resource_list(&limit["maxLimitRequestRatio"]) {
        let start = format!("{name} max limit to request ratio per {kind} is {most}");
        let positive = |list: &ResourceList| list.get(&name).copied().filter(|quantity| !quantity.is_zero());
        match (positive(requests), positive(limits)) {
            (None, _) => errors.push(format!("{start}, but no request is specified or request is 0")),
            (_, None) => errors.push(format!("{start}, but no limit is specified or limit is 0")),
            (Some(request), Some(limit)) => {
                let ratio = limit.millis() as f64 / request.millis() as f64;
                if ratio > most.millis() as f64 / 1000.0 {
                    errors.push(format!("{start}, but provided ratio is {ratio:.6}"));
                }
            }
        }
    }
}

fn minimum(name: &str, kind: &str, least: Quantity, request: Option<Quantity>, limit: Option<Quantity>) -> Option<String> {
    let start = format!("minimum {name} usage per {kind} is {least}");
    match (request, limit) {
        (None, _) => Some(format!("{start}.  No request is specified")),
        (Some(request), _) if request < least => Some(format!("{start}, but request is {request}")),
        (_, Some(limit)) if limit < least => Some(format!("{start}, but limit is {limit}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{World, ask};
    use serde_json::json;

    fn world(limit: Value) -> World {
        World::of([("limitranges", json!({"metadata": {"name": "l", "namespace": "a"}, "spec": {"limits": [limit]}}))])
    }

    fn pod(resources: Value) -> Value {
        json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "resources": resources}]}})
    }

    #[tokio::test]
    async fn containers_get_the_defaults_they_left_out() {
        let limit = json!({"type": "Container", "default": {"cpu": "1", "memory": "1Gi"}, "defaultRequest": {"cpu": "100m"}});
        let given = pod(json!({"limits": {"memory": "2Gi"}}));
        let answer = ask("pods").named("a", "p").creates(given).mutated(&LimitRanger, &world(limit)).await.unwrap();
        assert_eq!(answer.object["spec"]["containers"][0]["resources"], json!({"limits": {"cpu": "1", "memory": "2Gi"}, "requests": {"cpu": "100m"}}));
        let note = "LimitRanger plugin set: cpu request for container c; cpu limit for container c";
        assert_eq!(answer.object["metadata"]["annotations"][ANNOTATION], note);
    }

    #[tokio::test]
    async fn pods_stay_within_bounds() {
        let cpu = |request: &str, limit: &str| json!({"requests": {"cpu": request}, "limits": {"cpu": limit}});
        for (limit, resources, want) in [
            (json!({"type": "Container", "max": {"cpu": "1"}}), cpu("1", "1"), None),
            (json!({"type": "Container", "max": {"cpu": "1"}}), cpu("1", "2"), Some("maximum cpu usage per Container is 1, but limit is 2")),
            (json!({"type": "Pod", "max": {"cpu": "1"}}), json!({}), Some("maximum cpu usage per Pod is 1.  No limit is specified")),
            (json!({"type": "Container", "min": {"cpu": "1"}}), cpu("500m", "1"), Some("minimum cpu usage per Container is 1, but request is 500m")),
            (
                json!({"type": "Container", "min": {"cpu": "1"}, "max": {"cpu": "2"}}),
                json!({}),
                Some("[minimum cpu usage per Container is 1.  No request is specified, maximum cpu usage per Container is 2.  No limit is specified]"),
            ),
            (
                json!({"type": "Container", "maxLimitRequestRatio": {"cpu": "2"}}),
                cpu("1", "3"),
                Some("cpu max limit to request ratio per Container is 2, but provided ratio is 3.000000"),
            ),
        ] {
            let answer = ask("pods").named("a", "p").creates(pod(resources)).validated(&LimitRanger, &world(limit)).await;
            assert_eq!(answer.err().map(|s| s.message), want.map(|want| format!("pods \"p\" is forbidden: {want}")));
        }
        let claim = json!({"metadata": {"name": "d"}, "spec": {"resources": {"requests": {"storage": "2Gi"}}}});
        let limit = json!({"type": "PersistentVolumeClaim", "max": {"storage": "1Gi"}});
        let refused = ask("persistentvolumeclaims").named("a", "d").creates(claim).validated(&LimitRanger, &world(limit)).await.unwrap_err();
        assert_eq!(refused.message, "persistentvolumeclaims \"d\" is forbidden: maximum storage usage per PersistentVolumeClaim is 1Gi, but request is 2Gi");
    }
}
