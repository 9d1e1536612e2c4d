//! Service addresses: which ranges they come from, and that each is held by its Service and by nobody else.
//!
//! The server claims an address in the Service's own transaction; what is put right here was changed by hand.
pub mod addresses;
pub mod ranges;
pub mod services;

use api_meta::ClusterName;
use controller_kit::{EventKind, Occurrence, Recorder, reference};
use ipnet::IpNet;
use k8s_openapi::Metadata;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::net::IpAddr;

const FAMILY: &str = "ipaddress.kubernetes.io/ip-family";
const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
const ALLOCATOR: &str = "ipallocator.k8s.io";
const REPAIR: &str = "ipallocator-repair-controller";

fn nets(range: &ServiceCIDR) -> impl Iterator<Item = IpNet> {
    range.spec.iter().flat_map(|spec| spec.cidrs.iter().flatten()).filter_map(|net| net.parse().ok())
}

fn contains(range: &ServiceCIDR, address: IpAddr) -> bool {
    nets(range).any(|net| net.contains(&address))
}

fn label<'a>(address: &'a IPAddress, name: &str) -> &'a str {
    address.metadata.labels.as_ref().and_then(|labels| labels.get(name)).map_or("", String::as_str)
}

/// Whether it is there for a Service, and no other controller's.
fn is_ours(address: &IPAddress) -> bool {
    label(address, MANAGED_BY) == ALLOCATOR
}

fn is_for_a_service(address: &IPAddress) -> bool {
    let parent = &address.spec.parent_ref;
    parent.group.as_deref().unwrap_or_default().is_empty() && parent.resource == "services"
}

/// Whether a Service has an address, however it spells that.
fn holds(service: &Service, address: &str) -> bool {
    let Ok(address) = address.parse::<IpAddr>() else { return false };
    addresses_of(service).any(|own| own.parse() == Ok(address))
}

/// The addresses a Service has.
fn addresses_of(service: &Service) -> impl Iterator<Item = &str> {
    let all = service.spec.iter().flat_map(|spec| spec.cluster_ips.iter().flatten());
    all.map(String::as_str).filter(|address| !address.is_empty() && *address != "None")
}

fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

/// Warns as upstream's repair does, by an Event with an action.
fn warn<K: Metadata<Ty = ObjectMeta>>(events: &Recorder, cluster: &ClusterName, about: &K, action: &'static str, reason: &str, message: String) {
    let occurrence =
        Occurrence { cluster: cluster.clone(), about: reference(about), kind: EventKind::Warning, reason: reason.into(), message, action: Some(action) };
    events.occurred(occurrence);
}
