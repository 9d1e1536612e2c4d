//! The records of one Service, by the Kubernetes DNS specification 1.1. Pure.
use crate::record::{Record, RecordData, dashed, reverse_name};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// One endpoint of a headless Service under one name.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Named {
    name: Arc<str>,
    address: IpAddr,
}

/// All records a Service and its endpoints give, in `domain`. Sorted, each once.
pub fn records(service: &Service, slices: &[impl AsRef<EndpointSlice>], domain: &str) -> Vec<Record> {
    let (Some(name), Some(namespace), Some(spec)) = (&service.metadata.name, &service.metadata.namespace, &service.spec) else { return Vec::new() };
    let owner: Arc<str> = format!("{name}.{namespace}.svc.{domain}").into();
    let mut records = BTreeSet::new();
    if spec.type_.as_deref() == Some("ExternalName") {
        if let Some(target) = spec.external_name.as_deref().map(|target| target.trim_end_matches('.')).filter(|target| !target.is_empty()) {
            records.insert(Record { name: owner, data: RecordData::Cname(target.to_ascii_lowercase().into()) });
        }
        return records.into_iter().collect();
    }
    let declared: BTreeSet<&String> = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip).collect();
    if declared.iter().any(|address| address.as_str() == "None") {
        return headless(&owner, slices, spec.publish_not_ready_addresses == Some(true));
    }
    let addresses: Vec<IpAddr> = declared.iter().filter_map(|address| address.parse().ok()).collect();
    for address in &addresses {
        records.insert(Record { name: owner.clone(), data: RecordData::address(*address) });
        records.insert(Record { name: reverse_name(*address).into(), data: RecordData::Ptr(owner.clone()) });
    }
    if !addresses.is_empty() {
        for port in spec.ports.iter().flatten() {
            let Some(name) = service_name(&owner, port.name.as_deref(), port.protocol.as_deref()) else { continue };
            let Ok(number) = u16::try_from(port.port) else { continue };
            records.insert(Record { name, data: RecordData::Srv { priority: 0, weight: 100, port: number, target: owner.clone() } });
        }
    }
    records.into_iter().collect()
}

/// A headless Service is its ready endpoints; with none, its name does not exist.
fn headless(owner: &Arc<str>, slices: &[impl AsRef<EndpointSlice>], publish_not_ready: bool) -> Vec<Record> {
    let mut records = BTreeSet::new();
    let mut ports: BTreeMap<(Arc<str>, u16), BTreeSet<Named>> = BTreeMap::new();
    for slice in slices.iter().map(AsRef::as_ref).filter(|slice| slice.address_type != "FQDN") {
        for endpoint in slice.endpoints.iter().flatten() {
            let ready = endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true);
            if !ready && !publish_not_ready {
                continue;
            }
            for address in endpoint.addresses.iter().filter_map(|address| address.parse::<IpAddr>().ok()) {
                let label = endpoint.hostname.as_deref().filter(|hostname| !hostname.is_empty()).map_or_else(|| dashed(address), str::to_ascii_lowercase);
                let name: Arc<str> = format!("{label}.{owner}").into();
                records.insert(Record { name: owner.clone(), data: RecordData::address(address) });
                records.insert(Record { name: name.clone(), data: RecordData::address(address) });
                records.insert(Record { name: reverse_name(address).into(), data: RecordData::Ptr(name.clone()) });
                for port in slice.ports.iter().flatten() {
                    let Some(service) = service_name(owner, port.name.as_deref(), port.protocol.as_deref()) else { continue };
                    let Some(number) = port.port.and_then(|port| u16::try_from(port).ok()) else { continue };
                    ports.entry((service, number)).or_default().insert(Named { name: name.clone(), address });
                }
            }
        }
    }
    for ((service, port), endpoints) in ports {
        let weight = u16::try_from(100 / endpoints.len().max(1)).unwrap_or(1).max(1);
        records.extend(
            endpoints.into_iter().map(|endpoint| Record { name: service.clone(), data: RecordData::Srv { priority: 0, weight, port, target: endpoint.name } }),
        );
    }
    records.into_iter().collect()
}

/// `_http._tcp.<owner>`; unnamed ports have none.
fn service_name(owner: &str, port: Option<&str>, protocol: Option<&str>) -> Option<Arc<str>> {
    let port = port.filter(|port| !port.is_empty())?;
    Some(format!("_{port}._{}.{owner}", protocol.unwrap_or("TCP")).to_ascii_lowercase().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[track_caller]
    fn check(spec: Value, endpoints: Value, expected: &[&str]) {
        let service = serde_json::from_value(json!({ "metadata": { "name": "web", "namespace": "shop" }, "spec": spec })).unwrap();
        let ports = json!([{ "name": "http", "port": 8080, "protocol": "TCP" }, { "port": 9 }]);
        let slice: EndpointSlice =
            serde_json::from_value(json!({ "addressType": "IPv4", "metadata": { "name": "web-1" }, "ports": ports, "endpoints": endpoints })).unwrap();
        let shown: Vec<String> =
            records(&service, &[Arc::new(slice)], "cluster.local").iter().map(|record| record.to_string().replace("shop.svc.cluster.local", "~")).collect();
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_service_has_its_addresses_and_named_ports() {
        let ports = json!([{ "name": "http", "port": 80 }, { "name": "dns", "port": 53, "protocol": "UDP" }]);
        check(
            json!({ "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1", "fd00::1"], "ports": ports }),
            json!([{ "addresses": ["10.244.0.1"] }]),
            &[
                "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa PTR web.~",
                "1.0.96.10.in-addr.arpa PTR web.~",
                "_dns._udp.web.~ SRV 0 100 53 web.~",
                "_http._tcp.web.~ SRV 0 100 80 web.~",
                "web.~ A 10.96.0.1",
                "web.~ AAAA fd00::1",
            ],
        );
        check(json!({ "clusterIP": "10.96.0.1", "ports": [{ "port": 80 }] }), json!([]), &["1.0.96.10.in-addr.arpa PTR web.~", "web.~ A 10.96.0.1"]);
    }

    #[test]
    fn a_headless_service_is_its_ready_endpoints() {
        let endpoints = json!([
            { "addresses": ["10.244.0.1"], "hostname": "web-0", "conditions": { "ready": true } },
            { "addresses": ["10.244.0.2"] },
            { "addresses": ["10.244.0.3"], "conditions": { "ready": false } },
        ]);
        check(
            json!({ "clusterIP": "None", "clusterIPs": ["None"] }),
            endpoints.clone(),
            &[
                "1.0.244.10.in-addr.arpa PTR web-0.web.~",
                "10-244-0-2.web.~ A 10.244.0.2",
                "2.0.244.10.in-addr.arpa PTR 10-244-0-2.web.~",
                "_http._tcp.web.~ SRV 0 50 8080 10-244-0-2.web.~",
                "_http._tcp.web.~ SRV 0 50 8080 web-0.web.~",
                "web-0.web.~ A 10.244.0.1",
                "web.~ A 10.244.0.1",
                "web.~ A 10.244.0.2",
            ],
        );
        check(json!({ "clusterIP": "None" }), json!([{ "addresses": ["10.244.0.3"], "conditions": { "ready": false } }]), &[]);
        check(
            json!({ "clusterIP": "None", "publishNotReadyAddresses": true }),
            json!([{ "addresses": ["10.244.0.3"], "hostname": "web-2", "conditions": { "ready": false } }]),
            &["3.0.244.10.in-addr.arpa PTR web-2.web.~", "_http._tcp.web.~ SRV 0 100 8080 web-2.web.~", "web-2.web.~ A 10.244.0.3", "web.~ A 10.244.0.3"],
        );
    }

    #[test]
    fn an_external_name_is_an_alias() {
        check(json!({ "type": "ExternalName", "externalName": "DB.example.org." }), json!([]), &["web.~ CNAME db.example.org"]);
        check(json!({ "clusterIP": "" }), json!([]), &[]);
    }
}
