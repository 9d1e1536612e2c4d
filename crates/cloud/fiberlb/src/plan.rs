//! What a node is to serve: listeners, pools and addresses, from the ledger, Services, endpoints and Ingresses. Pure.
use crate::annotations::{self, Wishes};
use crate::ingress_plan::{self, BackendPort, IngressPlan, PortName};
use crate::node_network::{Door, Doors};
use crate::{BackendProtocol, Certificates, Configuration, Listener, Member, NodeSettings, Pool, PoolId};
use api_cache::{AddressLedger, ObjectKey};
use api_meta::ClusterName;
use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::{Node, Service, ServicePort};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use k8s_openapi::api::networking::v1::Ingress;
use rustls::sign::CertifiedKey;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

/// The label of nodes where FiberLB runs: no other answers for addresses.
pub const BALANCES: &str = "fiberlb.plasmacloud.io/balances";
/// The holder that all Ingresses share.
pub const INGRESS_HOLDER: &str = "ingress";
pub const INGRESS_PORTS: [&str; 2] = ["TCP/80", "TCP/443"];
/// How long a backend may take to begin its answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// All that a plan looks at.
pub trait View {
    fn service(&self, key: &ObjectKey) -> Option<Arc<Service>>;
    fn slices(&self, service: &ObjectKey) -> Vec<Arc<EndpointSlice>>;
    /// What a TLS Secret holds, if that can be used.
    fn certificate(&self, secret: &ObjectKey) -> Option<Arc<CertifiedKey>>;
    /// `None`: no such cluster.
    fn number(&self, cluster: &ClusterName) -> Option<u16>;
}

/// What the node does.
#[derive(Clone, Debug, Default)]
pub struct NodePlan {
    pub configuration: Configuration,
    /// Addresses of the pool that this node answers for.
    pub addresses: BTreeSet<Ipv4Addr>,
    /// The ports of those that may be connected to: address, protocol in lower case, port.
    pub open: BTreeSet<Door>,
    /// The Services whose change may change the plan.
    pub services: BTreeSet<ObjectKey>,
    /// The Secrets whose change may.
    pub secrets: BTreeSet<ObjectKey>,
}

/// The plan. `nodes` are those that may answer for addresses; `ingresses` are ours.
pub fn plan(settings: &NodeSettings, ledger: &AddressLedger, nodes: &BTreeSet<String>, ingresses: &[(ObjectKey, Arc<Ingress>)], view: &impl View) -> NodePlan {
    let mut plan = NodePlan::default();
    let ingress = ingress_plan::plan(ingresses);
    for (address, grant) in &ledger.grants {
        let of_pool = settings.pool.contains(*address);
        if !(*address == settings.node_address || of_pool && owner(*address, nodes) == Some(&settings.node_name)) {
            continue;
        }
        if of_pool {
            plan.addresses.insert(*address);
            let ports = grant.holders.values().flat_map(|holding| &holding.ports);
            plan.open.extend(ports.filter_map(|port| parse_port(port)).map(|(protocol, port)| (*address, protocol.to_ascii_lowercase(), port)));
        }
        for (holder, holding) in &grant.holders {
            if holder == INGRESS_HOLDER {
                plan.serve_ingresses(*address, &ingress, view);
            } else {
                plan.serve_ports(settings, *address, holder, &holding.proxied, view);
            }
        }
    }
    plan
}

/// `TCP/80` as protocol and port.
pub fn parse_port(text: &str) -> Option<(&str, u16)> {
    let (protocol, port) = text.split_once('/')?;
    Some((protocol, port.parse().ok()?))
}

/// The node that answers for an address: the highest of hashes, so that a node that goes moves its own addresses alone.
pub fn owner(address: Ipv4Addr, nodes: &BTreeSet<String>) -> Option<&String> {
    nodes.iter().max_by_key(|name| (Sha256::new().chain_update(name.as_bytes()).chain_update(address.octets()).finalize(), *name))
}

/// Whether a node may answer for addresses.
pub fn is_candidate(node: &Node) -> bool {
    let labels = node.metadata.labels.as_ref();
    let balances = labels.and_then(|labels| labels.get(BALANCES)).is_some_and(|value| value == "true");
    let excluded = !balances || labels.is_some_and(|labels| labels.contains_key("node.kubernetes.io/exclude-from-external-load-balancers"));
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    !excluded && conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

impl NodePlan {
    /// What the node's rules are made of.
    pub fn doors(&self) -> Doors {
        let proxied = self.configuration.listeners.keys().map(|at| (*at.ip(), "tcp".to_owned(), at.port())).collect();
        Doors { addresses: self.addresses.clone(), open: self.open.clone(), proxied }
    }

    fn serve_ingresses(&mut self, address: Ipv4Addr, ingress: &IngressPlan, view: &impl View) {
        for (id, backend) in &ingress.backends {
            self.services.insert(backend.service.clone());
            if let Some(pool) = http_pool(backend, view) {
                self.configuration.pools.insert(id.clone(), Arc::new(pool));
            }
        }
        let mut certificates = Certificates::default();
        for (host, secrets) in &ingress.certificates {
            self.secrets.extend(secrets.iter().cloned());
            if let Some(certificate) = secrets.iter().find_map(|secret| view.certificate(secret)) {
                certificates.by_host.entry(host).insert_entry(certificate);
            }
        }
        let routes = Arc::new(ingress.routes.clone());
        self.configuration.listeners.insert(SocketAddrV4::new(address, 80), Listener::Http { routes: routes.clone() });
        self.configuration.listeners.insert(SocketAddrV4::new(address, 443), Listener::Https { routes, certificates: Arc::new(certificates) });
    }

    /// The ports of a Service's address that are proxied.
    fn serve_ports(&mut self, settings: &NodeSettings, address: Ipv4Addr, holder: &str, proxied: &BTreeSet<String>, view: &impl View) {
        let Some(key) = AddressLedger::service_of(holder).filter(|_| !proxied.is_empty()) else { return };
        self.services.insert(key.clone());
        let (Some(service), Some(number)) = (view.service(&key), view.number(&key.cluster)) else { return };
        let (Some(spec), Ok(wishes)) = (&service.spec, Wishes::of(&service.metadata)) else { return };
        let local = spec.external_traffic_policy.as_deref() == Some("Local");
        let slices = view.slices(&key);
        let mut ranges: Vec<Ipv4Net> = Vec::new();
        ranges.extend(spec.load_balancer_source_ranges.iter().flatten().filter_map(|range| range.trim().parse::<Ipv4Net>().ok()));
        for port in spec.ports.iter().flatten() {
            let Ok(number_of_port) = u16::try_from(port.port) else { continue };
            if !proxied.contains(&format!("{}/{number_of_port}", port.protocol.as_deref().unwrap_or("TCP"))) {
                continue;
            }
            let id: PoolId = format!("{key}/{number_of_port}").into();
            let pool = Pool {
                algorithm: wishes.algorithm(),
                members: members(&slices, port, local.then_some(settings.node_name.as_str())),
                health_check: wishes.health_check.clone(),
                protocol: BackendProtocol::Http1,
                tls: None,
                proxy_protocol: wishes.proxy_protocol,
                mark: u32::from(number) << 16,
                timeout: ANSWER_TIMEOUT,
            };
            self.configuration.pools.insert(id.clone(), Arc::new(pool));
            self.configuration.listeners.insert(SocketAddrV4::new(address, number_of_port), Listener::Tcp { pool: id, sources: ranges.clone() });
        }
    }
}

/// The pool of a Service's port that Ingresses lead to.
fn http_pool(backend: &BackendPort, view: &impl View) -> Option<Pool> {
    let (service, number) = (view.service(&backend.service)?, view.number(&backend.service.cluster)?);
    let port = service.spec.as_ref()?.ports.iter().flatten().find(|port| match &backend.port {
        PortName::Name(name) => port.name.as_ref() == Some(name),
        PortName::Number(number) => port.port == *number,
    })?;
    // What an annotation says wrongly is told on the Service if it is balanced; requests are led by the defaults.
    let wishes = match Wishes::of(&service.metadata) {
        Ok(wishes) => wishes,
        // Nothing goes unsealed that was to be sealed.
        Err(_) if annotations::wants_tls(&service.metadata) => return None,
        Err(_) => Wishes::default(),
    };
    let declared = port.app_protocol.as_deref().is_some_and(|protocol| matches!(protocol, "kubernetes.io/h2c" | "grpc" | "h2c"));
    let protocol = wishes.protocol.unwrap_or(if declared { BackendProtocol::Http2 } else { BackendProtocol::Http1 });
    let members = members(&view.slices(&backend.service), port, None);
    let algorithm = wishes.algorithm();
    let Wishes { health_check, tls, proxy_protocol, .. } = wishes;
    Some(Pool { algorithm, members, health_check, protocol, tls, proxy_protocol, mark: u32::from(number) << 16, timeout: ANSWER_TIMEOUT })
}

/// Who serves a port: those that are ready, else those that serve while they end.
fn members(slices: &[Arc<EndpointSlice>], port: &ServicePort, node: Option<&str>) -> Vec<Member> {
    let name = port.name.as_deref().unwrap_or_default();
    let mut found: BTreeMap<SocketAddrV4, (bool, bool)> = BTreeMap::new();
    for slice in slices.iter().filter(|slice| slice.address_type == "IPv4") {
        for number in
            slice.ports.iter().flatten().filter(|port| port.name.as_deref().unwrap_or_default() == name).filter_map(|port| u16::try_from(port.port?).ok())
        {
            for endpoint in slice.endpoints.iter().flatten().filter(|endpoint| node.is_none() || endpoint.node_name.as_deref() == node) {
                let Some(address) = endpoint.addresses.first().and_then(|address| address.parse::<Ipv4Addr>().ok()) else { continue };
                let (ready, leaving) = state(endpoint);
                let known = found.entry(SocketAddrV4::new(address, number)).or_default();
                *known = (known.0 || ready, known.1 || leaving);
            }
        }
    }
    let of =
        |wanted: fn(&(bool, bool)) -> bool| found.iter().filter(|(_, state)| wanted(state)).map(|(at, _)| Member { at: *at, weight: 1 }).collect::<Vec<_>>();
    let ready = of(|state| state.0);
    if ready.is_empty() { of(|state| state.1) } else { ready }
}

/// Whether an endpoint is ready, and whether it serves while it ends.
fn state(endpoint: &Endpoint) -> (bool, bool) {
    let conditions = endpoint.conditions.clone().unwrap_or_default();
    let ready = conditions.ready.unwrap_or(true);
    (ready, conditions.serving.unwrap_or(ready) && conditions.terminating == Some(true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AddressPool;
    use api_cache::{AddressGrant, AddressHolding};
    use serde_json::json;

    struct Objects {
        service: Service,
        slice: Arc<EndpointSlice>,
    }
    impl View for Objects {
        fn service(&self, key: &ObjectKey) -> Option<Arc<Service>> {
            (&*key.name == "web").then(|| Arc::new(self.service.clone()))
        }
        fn slices(&self, _: &ObjectKey) -> Vec<Arc<EndpointSlice>> {
            vec![self.slice.clone()]
        }
        fn certificate(&self, _: &ObjectKey) -> Option<Arc<CertifiedKey>> {
            None
        }
        fn number(&self, cluster: &ClusterName) -> Option<u16> {
            Some(if cluster.is_root() { 0 } else { 7 })
        }
    }

    fn objects() -> Objects {
        let annotations = json!({ "fiberlb.plasmacloud.io/algorithm": "least-conn", "fiberlb.plasmacloud.io/health-check-path": "/h" });
        let ports = json!([{ "name": "http", "port": 80, "appProtocol": "kubernetes.io/h2c" }, { "name": "dns", "port": 53, "protocol": "UDP" }]);
        let service = json!({ "metadata": { "name": "web", "annotations": annotations }, "spec": { "type": "LoadBalancer", "ports": ports } });
        let endpoint = |address: &str, ready: bool, leaving: bool| json!({ "addresses": [address], "conditions": { "ready": ready, "serving": ready || leaving, "terminating": leaving } });
        let endpoints = json!([endpoint("10.244.0.9", false, true), endpoint("10.244.0.5", true, false), endpoint("10.244.0.4", false, false)]);
        let slice = json!({ "metadata": {}, "addressType": "IPv4", "ports": [{ "name": "http", "port": 8080 }], "endpoints": endpoints });
        Objects { service: serde_json::from_value(service).unwrap(), slice: Arc::new(serde_json::from_value(slice).unwrap()) }
    }

    fn ledger(holder: &str, ports: &[&str], proxied: &[&str]) -> AddressLedger {
        let set = |ports: &[&str]| ports.iter().map(|port| (*port).to_owned()).collect();
        let holding = AddressHolding { ports: set(ports), proxied: set(proxied) };
        let grant = AddressGrant { sharing_key: None, holders: BTreeMap::from([(holder.to_owned(), holding)]) };
        AddressLedger { grants: BTreeMap::from([(Ipv4Addr::new(192, 0, 2, 50), grant)]) }
    }

    fn settings() -> NodeSettings {
        NodeSettings::new("n1", Ipv4Addr::new(192, 0, 2, 2), AddressPool::parse(&["192.0.2.50-192.0.2.60"]).unwrap())
    }

    fn nodes(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_tenants_proxied_port_leads_to_its_pods_in_its_name() {
        let ledger = ledger("c.team-a:default/web", &["TCP/80", "UDP/53"], &["TCP/80"]);
        let plan = plan(&settings(), &ledger, &nodes(&["n1"]), &[], &objects());
        let address = Ipv4Addr::new(192, 0, 2, 50);
        assert_eq!(plan.open, BTreeSet::from([(address, "tcp".to_owned(), 80), (address, "udp".to_owned(), 53)]));
        assert_eq!(plan.configuration.listeners.keys().map(ToString::to_string).collect::<Vec<_>>(), ["192.0.2.50:80"]);
        let pool = plan.configuration.pools.values().next().unwrap();
        assert_eq!(pool.members, [Member { at: "10.244.0.5:8080".parse().unwrap(), weight: 1 }]);
        assert_eq!((pool.mark, pool.algorithm.name()), (7 << 16, "least-conn"));
        assert!(pool.health_check.is_some());
    }

    #[test]
    fn ingresses_are_served_on_both_ports_and_speak_what_the_port_declares() {
        let backend = json!({ "service": { "name": "web", "port": { "name": "http" } } });
        let spec = json!({ "ingressClassName": "fiberlb", "rules": [{ "host": "a.example.com", "http": { "paths": [{ "path": "/", "pathType": "Prefix", "backend": backend }] } }] });
        let ingress = Arc::new(serde_json::from_value(json!({ "metadata": {}, "spec": spec })).unwrap());
        let ingresses = [(ObjectKey::new(&ClusterName::root(), "default", "i"), ingress)];
        let ledger = ledger(INGRESS_HOLDER, &INGRESS_PORTS, &INGRESS_PORTS);
        let plan = plan(&settings(), &ledger, &nodes(&["n1"]), &ingresses, &objects());
        assert_eq!(plan.configuration.listeners.keys().map(ToString::to_string).collect::<Vec<_>>(), ["192.0.2.50:80", "192.0.2.50:443"]);
        assert_eq!(plan.configuration.pools["root:default/web:http"].protocol, BackendProtocol::Http2);
    }

    #[test]
    fn pods_that_want_tls_get_nothing_else_and_are_told_who_connects_if_they_ask() {
        let with = |annotations: &[(&str, &str)]| {
            let mut objects = objects();
            let all = annotations.iter().map(|(name, text)| (format!("{}{name}", annotations::PREFIX), (*text).to_owned()));
            objects.service.metadata.annotations = Some(all.collect());
            objects.service.metadata.namespace = Some("default".into());
            objects
        };
        let key = ObjectKey::new(&ClusterName::root(), "default", "web");
        let pool = |annotations: &[(&str, &str)]| http_pool(&BackendPort { service: key.clone(), port: PortName::Number(80) }, &with(annotations));
        assert!(pool(&[("backend-protocol", "https")]).is_some_and(|pool| pool.tls.is_some() && pool.protocol == BackendProtocol::Http1));
        assert!(pool(&[("backend-protocol", "https"), ("backend-ca", "x")]).is_none(), "what can't be verified is not sent");
        assert!(pool(&[("backend-protocol", "spdy")]).is_some_and(|pool| pool.tls.is_none()));
        let ledger = ledger("root:default/web", &["TCP/80"], &["TCP/80"]);
        let plan = plan(&settings(), &ledger, &nodes(&["n1"]), &[], &with(&[("proxy-protocol", "v2")]));
        assert_eq!(plan.configuration.pools.values().next().unwrap().proxy_protocol, Some(crate::ProxyProtocol::V2));
    }

    #[test]
    fn one_node_answers_for_an_address_and_another_when_it_is_gone() {
        let ledger = ledger("root:default/web", &["TCP/80"], &[]);
        let all = nodes(&["n1", "n2", "n3"]);
        let answering: Vec<&str> = ["n1", "n2", "n3"]
            .into_iter()
            .filter(|name| !plan(&NodeSettings { node_name: (*name).into(), ..settings() }, &ledger, &all, &[], &objects()).addresses.is_empty())
            .collect();
        let [one] = answering[..] else { panic!("{answering:?} answer") };
        let rest: BTreeSet<String> = all.into_iter().filter(|name| name != one).collect();
        assert!(owner(Ipv4Addr::new(192, 0, 2, 50), &rest).is_some_and(|next| next != one));
    }
}
