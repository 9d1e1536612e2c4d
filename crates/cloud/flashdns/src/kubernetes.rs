//! Kubernetes' side: follows Services and EndpointSlices into zones, and names the objects that lead pods here.
use crate::engine::Engine;
use crate::plan::records;
use crate::zone::name_server;
use api_cache::{Cache, Change, ObjectKey, Selection, Source};
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointHints, EndpointPort, EndpointSlice, ForNode};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::broadcast::{Receiver, error::RecvError};

/// Name and namespace of the DNS Service, which many programs look for.
pub const SERVICE: &str = "kube-dns";
pub const NAMESPACE: &str = "kube-system";
const DNS_PORT: i32 = 53;
const BY_SERVICE: &str = "service";

/// The Service at `cluster_dns` and the EndpointSlice that leads it to `endpoint`, where this server listens.
///
/// The Service has no selector, so no controller touches the slice. The server creates both, and puts them right at
/// every start. `node_name` is the node `endpoint` is an address of.
pub fn objects(cluster_dns: IpAddr, endpoint: IpAddr, port: u16, node_name: Option<&str>) -> (Service, EndpointSlice) {
    let labels = |more: &[(&str, &str)]| -> Option<BTreeMap<String, String>> {
        let common = [("k8s-app", SERVICE), ("app.kubernetes.io/name", "flashdns")];
        Some(common.iter().chain(more).map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
    };
    let ports = [("dns", "UDP"), ("dns-tcp", "TCP")];
    let service = Service {
        metadata: ObjectMeta {
            name: Some(SERVICE.into()),
            namespace: Some(NAMESPACE.into()),
            labels: labels(&[("kubernetes.io/cluster-service", "true"), ("kubernetes.io/name", "CoreDNS")]),
            ..ObjectMeta::default()
        },
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".into()),
            cluster_ip: Some(cluster_dns.to_string()),
            cluster_ips: Some(vec![cluster_dns.to_string()]),
            ip_families: Some(vec![if cluster_dns.is_ipv4() { "IPv4".into() } else { "IPv6".into() }]),
            ip_family_policy: Some("SingleStack".into()),
            ports: Some(
                ports
                    .iter()
                    .map(|(name, protocol)| ServicePort {
                        name: Some((*name).into()),
                        protocol: Some((*protocol).into()),
                        port: DNS_PORT,
                        target_port: Some(IntOrString::Int(port.into())),
                        ..ServicePort::default()
                    })
                    .collect(),
            ),
            ..ServiceSpec::default()
        }),
        status: None,
    };
    let slice = EndpointSlice {
        metadata: ObjectMeta {
            name: Some(format!("{SERVICE}-flashdns")),
            namespace: Some(NAMESPACE.into()),
            labels: labels(&[("kubernetes.io/service-name", SERVICE), ("endpointslice.kubernetes.io/managed-by", "flashdns.k8shost.io")]),
            ..ObjectMeta::default()
        },
        address_type: if endpoint.is_ipv4() { "IPv4".into() } else { "IPv6".into() },
        endpoints: Some(vec![Endpoint {
            addresses: vec![endpoint.to_string()],
            conditions: Some(EndpointConditions { ready: Some(true), serving: Some(true), terminating: Some(false) }),
            node_name: node_name.map(str::to_owned),
            // Where every node answers, its own pods ask it.
            hints: node_name.map(|name| EndpointHints { for_nodes: Some(vec![ForNode { name: name.into() }]), for_zones: None }),
            ..Endpoint::default()
        }]),
        ports: Some(
            ports
                .iter()
                .map(|(name, protocol)| EndpointPort {
                    name: Some((*name).into()),
                    protocol: Some((*protocol).into()),
                    port: Some(port.into()),
                    app_protocol: None,
                })
                .collect(),
        ),
    };
    (service, slice)
}

/// Keeps an engine's zones as Services and EndpointSlices say.
pub(crate) struct Follower {
    engine: Arc<Engine>,
    services: Arc<Cache<Service>>,
    slices: Arc<Cache<EndpointSlice>>,
    service_changes: Receiver<Change<Service>>,
    slice_changes: Receiver<Change<EndpointSlice>>,
}

impl Follower {
    /// Returns when the zones hold everything there is.
    pub async fn start(engine: Arc<Engine>, source: &dyn Source) -> Self {
        let services = Cache::start(source, Selection::of::<Service>("services"), &[]);
        let slices = Cache::start(source, Selection::of::<EndpointSlice>("endpointslices"), &[(BY_SERVICE, service_of)]);
        let (service_changes, slice_changes) = (services.subscribe(), slices.subscribe());
        services.synced().await;
        slices.synced().await;
        let follower = Self { engine, services, slices, service_changes, slice_changes };
        follower.update_all();
        follower
    }

    pub async fn run(mut self) {
        loop {
            let lost = tokio::select! {
                change = self.service_changes.recv() => match change {
                    Ok(change) => { self.update(&change.key); None }
                    Err(error) => Some(error),
                },
                change = self.slice_changes.recv() => match change {
                    Ok(change) => {
                        let names = change.old.iter().chain(&change.new).flat_map(|slice| service_of(slice));
                        for (namespace, name) in names.collect::<std::collections::BTreeSet<_>>().iter().filter_map(|name| name.split_once('/')) {
                            self.update(&ObjectKey::new(&change.key.cluster, namespace, name));
                        }
                        None
                    }
                    Err(error) => Some(error),
                },
            };
            match lost {
                None => {}
                Some(RecvError::Lagged(_)) => self.update_all(),
                // The caches are ours: this can't be before we end.
                Some(RecvError::Closed) => return,
            }
        }
    }

    fn update(&self, key: &ObjectKey) {
        let records = self.services.get(key).map(|service| {
            let slices = self.slices.by_index(BY_SERVICE, &key.cluster, &format!("{}/{}", key.namespace, key.name));
            let domain = &self.engine.settings().domain;
            let mut records = records(&service, &slices, domain);
            if !key.cluster.is_root() && (&*key.namespace, &*key.name) == (NAMESPACE, SERVICE) {
                records.extend(address_of(&service).map(|address| name_server(domain, address)));
            }
            records
        });
        self.engine.replace(key, records.unwrap_or_default());
    }

    fn update_all(&self) {
        self.services.all().iter().for_each(|(key, _)| self.update(key));
        self.engine.services().iter().for_each(|key| self.update(key));
    }
}

fn address_of(service: &Service) -> Option<IpAddr> {
    service.spec.as_ref()?.cluster_ip.as_ref()?.parse().ok()
}

fn service_of(slice: &EndpointSlice) -> Vec<String> {
    let name = slice.metadata.labels.as_ref().and_then(|labels| labels.get("kubernetes.io/service-name"));
    let namespace = slice.metadata.namespace.as_deref().unwrap_or_default();
    name.map(|name| format!("{namespace}/{name}")).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_and_its_slice_belong_together() {
        let (service, slice) = objects("10.96.0.10".parse().unwrap(), "10.244.0.1".parse().unwrap(), 10053, Some("n1"));
        assert_eq!(service_of(&slice), ["kube-system/kube-dns"]);
        let (service_ports, slice_ports) = (service.spec.unwrap().ports.unwrap(), slice.ports.unwrap());
        for (service, slice) in service_ports.iter().zip(&slice_ports) {
            assert_eq!((&service.name, &service.protocol, service.port), (&slice.name, &slice.protocol, 53));
            assert_eq!(slice.port, Some(10053));
        }
    }
}
