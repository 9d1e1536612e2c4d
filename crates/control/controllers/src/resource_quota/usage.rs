//! Usage: what pods, services and claims take of a quota, by upstream's resource names.
use crate::pods;
use api_meta::Quantity;
use controller_kit::pod_resources::{self, Kind, Resources};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, ResourceQuota, Service};

/// Adds a pod's requests and limits, under all the names a quota may use.
pub fn add_pod(used: &mut Resources, pod: &Pod) {
    let Some(spec) = &pod.spec else { return };
    let mut more = Resources::new();
    one(&mut more, "count/pods");
    // A finished pod holds nothing but its object.
    if !pods::is_finished(pod) {
        one(&mut more, "pods");
        for (name, quantity) in pod_resources::pod_resources(spec, Kind::Requests) {
            if name == "cpu" || name == "memory" || name == "ephemeral-storage" || name.starts_with("hugepages-") {
                more.insert(name.clone(), quantity);
            }
            more.insert(format!("requests.{name}"), quantity);
        }
        for (name, quantity) in pod_resources::pod_resources(spec, Kind::Limits) {
            more.insert(format!("limits.{name}"), quantity);
        }
    }
    pod_resources::add(used, &more);
}

pub fn add_service(used: &mut Resources, service: &Service) {
    let mut more = Resources::new();
    one(&mut more, "services");
    one(&mut more, "count/services");
    let Some(spec) = &service.spec else { return };
    let ports = i64::try_from(spec.ports.as_ref().map_or(0, Vec::len)).unwrap_or(i64::MAX);
    match spec.type_.as_deref() {
        Some("NodePort") => {
            more.insert("services.nodeports".into(), Quantity::from_units(ports));
        }
        Some("LoadBalancer") => {
            one(&mut more, "services.loadbalancers");
            let allocated = spec.ports.iter().flatten().filter(|port| port.node_port.is_some_and(|n| n > 0)).count();
            let ports = if spec.allocate_load_balancer_node_ports == Some(false) { i64::try_from(allocated).unwrap_or(i64::MAX) } else { ports };
            more.insert("services.nodeports".into(), Quantity::from_units(ports));
        }
        _ => {}
    }
    pod_resources::add(used, &more);
}

pub fn add_claim(used: &mut Resources, claim: &PersistentVolumeClaim) {
    let mut more = Resources::new();
    one(&mut more, "persistentvolumeclaims");
    one(&mut more, "count/persistentvolumeclaims");
    let Some(spec) = &claim.spec else { return };
    let class = spec.storage_class_name.clone().filter(|class| !class.is_empty());
    let storage = pod_resources::parse(spec.resources.as_ref().and_then(|resources| resources.requests.as_ref())).get("storage").copied();
    if let Some(class) = &class {
        one(&mut more, &format!("{class}.storageclass.storage.k8s.io/persistentvolumeclaims"));
    }
    if let Some(storage) = storage {
        more.insert("requests.storage".into(), storage);
        if let Some(class) = &class {
            more.insert(format!("{class}.storageclass.storage.k8s.io/requests.storage"), storage);
        }
    }
    pod_resources::add(used, &more);
}

fn one(resources: &mut Resources, name: &str) {
    resources.insert(name.to_owned(), Quantity::from_units(1));
}

/// Whether the quota's scopes take this pod.
pub fn in_scope(quota: &ResourceQuota, pod: &Pod) -> bool {
    let Some(spec) = &quota.spec else { return false };
    let plain = spec.scopes.iter().flatten().all(|scope| has_scope(pod, scope, "Exists", &[]));
    let selected = spec.scope_selector.iter().flat_map(|selector| selector.match_expressions.iter().flatten());
    plain && selected.into_iter().all(|wanted| has_scope(pod, &wanted.scope_name, &wanted.operator, wanted.values.as_deref().unwrap_or_default()))
}

fn has_scope(pod: &Pod, scope: &str, operator: &str, values: &[String]) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let terminating = spec.active_deadline_seconds.is_some();
    let best_effort = pod_resources::pod_resources(spec, Kind::Requests).keys().all(|name| name != "cpu" && name != "memory");
    match scope {
        "Terminating" => terminating,
        "NotTerminating" => !terminating,
        "BestEffort" => best_effort,
        "NotBestEffort" => !best_effort,
        "PriorityClass" => {
            let class = spec.priority_class_name.clone().filter(|class| !class.is_empty());
            let listed = class.as_ref().is_some_and(|class| values.contains(class));
            match operator {
                "In" => listed,
                "NotIn" => !listed,
                "Exists" => class.is_some(),
                "DoesNotExist" => class.is_none(),
                _ => false,
            }
        }
        "CrossNamespacePodAffinity" => {
            let affinity = spec.affinity.clone().unwrap_or_default();
            let (together, apart) = (affinity.pod_affinity.unwrap_or_default(), affinity.pod_anti_affinity.unwrap_or_default());
            let required = [together.required_during_scheduling_ignored_during_execution, apart.required_during_scheduling_ignored_during_execution];
            let preferred = [together.preferred_during_scheduling_ignored_during_execution, apart.preferred_during_scheduling_ignored_during_execution];
            let preferred = preferred.into_iter().flatten().flatten().map(|weighted| weighted.pod_affinity_term);
            let mut terms = required.into_iter().flatten().flatten().chain(preferred);
            terms.any(|term| term.namespace_selector.is_some() || term.namespaces.is_some_and(|namespaces| !namespaces.is_empty()))
        }
        _ => false,
    }
}
