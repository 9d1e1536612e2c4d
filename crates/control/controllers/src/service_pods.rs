//! Service pods: which pods stand behind a service, on which ports and addresses.
use crate::pods;
use controller_kit::ObjectKey;
use controller_kit::{Change, Objects};
use k8s_openapi::api::core::v1::{Container, Pod, Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::collections::BTreeMap;
use std::sync::Arc;

pub fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None")
}

/// The selector of a service whose endpoints a controller keeps.
pub fn selector_of(service: &Service) -> Option<&BTreeMap<String, String>> {
    let spec = service.spec.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    spec.selector.as_ref().filter(|selector| !selector.is_empty())
}

fn selects(selector: &BTreeMap<String, String>, labels: Option<&BTreeMap<String, String>>) -> bool {
    selector.iter().all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
}

/// The pods a service selects, in name order.
pub fn selected(pods: &Objects<Pod>, key: &ObjectKey, selector: &BTreeMap<String, String>) -> Vec<Arc<Pod>> {
    let mut all = pods.list(&key.cluster, Some(&key.namespace));
    all.retain(|pod| selects(selector, pod.metadata.labels.as_ref()));
    all
}

/// The services a changed pod stands, or stood, behind.
pub fn services_of(services: &Objects<Service>, change: &Change<Pod>) -> Vec<ObjectKey> {
    let labels = [&change.old, &change.new].map(|pod| pod.as_ref().map(|pod| pod.metadata.labels.as_ref()));
    let all = services.list(&change.key.cluster, Some(&change.key.namespace));
    let concerned = all.iter().filter(|service| {
        let selector = selector_of(service);
        selector.is_some_and(|selector| labels.iter().flatten().any(|labels| selects(selector, *labels)))
    });
    concerned.map(|service| ObjectKey::of(&change.key.cluster, &service.metadata)).collect()
}

/// Whether a pod has a place among endpoints at all.
pub fn is_endpoint(pod: &Pod, include_terminating: bool) -> bool {
    !pods::is_finished(pod) && !ips(pod).is_empty() && (include_terminating || !pods::is_terminating(pod))
}

pub fn ips(pod: &Pod) -> Vec<&str> {
    let Some(status) = &pod.status else { return Vec::new() };
    let all: Vec<&str> = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str()).filter(|ip| !ip.is_empty()).collect();
    if all.is_empty() { status.pod_ip.as_deref().filter(|ip| !ip.is_empty()).into_iter().collect() } else { all }
}

/// `IPv4` or `IPv6`.
pub fn family_of(ip: &str) -> &'static str {
    if ip.contains(':') { "IPv6" } else { "IPv4" }
}

/// The families the service is in, the first the primary.
pub fn families(service: &Service) -> Vec<String> {
    let Some(spec) = &service.spec else { return Vec::new() };
    if let Some(families) = spec.ip_families.clone().filter(|families| !families.is_empty()) {
        return families;
    }
    let address = spec.cluster_ip.as_deref().filter(|ip| *ip != "None").unwrap_or_default();
    vec![family_of(address).to_owned()]
}

/// The pod's port behind a service port; `None` when the pod has none of that name.
pub fn target_port(pod: &Pod, port: &ServicePort) -> Option<i32> {
    match port.target_port.as_ref() {
        None | Some(IntOrString::Int(0)) => Some(port.port),
        Some(IntOrString::Int(number)) => Some(*number),
        Some(IntOrString::String(name)) => {
            let spec = pod.spec.as_ref()?;
            let sidecar = |container: &&Container| container.restart_policy.as_deref() == Some("Always");
            let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten().filter(sidecar));
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
            let found = ports.find(|p| p.name.as_deref() == Some(name) && p.protocol.as_deref().unwrap_or("TCP") == protocol)?;
            Some(found.container_port)
        }
    }
}

/// The pod's own name under the service's domain.
pub fn hostname(pod: &Pod, service: &Service) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let in_domain = spec.subdomain.is_some() && spec.subdomain == service.metadata.name;
    spec.hostname.clone().filter(|hostname| in_domain && !hostname.is_empty())
}
