//! What one Service or one Pod asks of the node's packet rules. Pure.
use crate::endpoints::{choose, of_port};
use crate::settings::ProxySettings;
use api_cache::Held;
use api_meta::IpFamily;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    /// As Kubernetes writes it; absent means TCP. `None` for what can't be translated.
    pub fn parse(name: Option<&str>) -> Option<Self> {
        match name {
            None | Some("" | "TCP") => Some(Self::Tcp),
            Some("UDP") => Some(Self::Udp),
            Some("SCTP") => Some(Self::Sctp),
            Some(_) => None,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

/// Where clients knock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frontend {
    /// The number of the virtual cluster whose pods alone see it; 0: the host cluster's Services, and ports, which are everybody's.
    pub cluster: u16,
    /// `None`: any address of the node but loopback (node ports, host ports).
    pub address: Option<IpAddr>,
    pub protocol: Protocol,
    pub port: u16,
}

/// As nft writes it in a map's key.
impl fmt::Display for Frontend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.cluster != 0 {
            write!(f, "{:#x} . ", u32::from(self.cluster) << 16)?;
        }
        if let Some(address) = self.address {
            write!(f, "{address} . ")?;
        }
        write!(f, "{} . {}", self.protocol, self.port)
    }
}

/// Where a connection is led.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Backend {
    pub at: SocketAddr,
    /// It runs on this node, so it may be its own client.
    pub local: bool,
}

/// Whose source address becomes the node's on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Translation {
    /// Those from outside the cluster: Service addresses.
    Cluster,
    /// Everybody's: answers must come back through this node.
    External,
    /// This node's own: what pods and the node send to an address whose outside traffic stays local.
    Inside,
    /// Nobody's: the backend is on this node and shall see the client.
    Keep,
}

/// What happens to connections to a frontend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The number of the cluster it is of; 0 is the host cluster. Whoever comes in by a port travels in its name from there on.
    pub cluster: u16,
    pub translation: Translation,
    pub backends: BTreeSet<Backend>,
    /// For clients outside the cluster, where they get others than those inside (externalTrafficPolicy: Local).
    pub outside: Option<BTreeSet<Backend>>,
    /// With no backend: drop (others have some) rather than refuse (nobody has).
    pub drop: bool,
    /// ClientIP affinity, in seconds.
    pub affinity: Option<u32>,
    /// Who may connect; empty: everybody.
    pub sources: Vec<IpNet>,
}

/// All that one owner asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// The number of the owner's cluster.
    pub cluster: u16,
    pub frontends: BTreeMap<Frontend, Target>,
    /// Addresses that belong to the Service alone: other ports of them are refused.
    pub addresses: BTreeSet<IpAddr>,
}

impl Rules {
    /// Endpoints on this node that clients outside are led to, of Services whose outside traffic stays local.
    pub fn local_endpoints(&self) -> usize {
        let outside = self.frontends.values().flat_map(|target| target.outside.iter().flatten());
        outside.map(|backend| backend.at.ip()).collect::<BTreeSet<_>>().len()
    }
}

/// The rules of a Service with its EndpointSlices, in the cluster of this number. Headless and ExternalName Services have none.
///
/// External and balancer addresses of a virtual cluster's Service are seen by its own pods alone: whoever administers a
/// cluster writes them at will, and must not take other clusters' or the machine's own traffic by that. Balancer addresses
/// that are `held`, because the host's load balancer gave them to this very Service, are everybody's.
pub fn service_rules(number: u16, service: &Service, slices: &[impl AsRef<EndpointSlice>], held: &Held, settings: &ProxySettings) -> Rules {
    let mut rules = Rules { cluster: number, ..Rules::default() };
    let Some(spec) = &service.spec else { return rules };
    let another_proxys = service.metadata.labels.iter().flatten().any(|(key, _)| key == "service.kubernetes.io/service-proxy-name");
    if another_proxys || spec.type_.as_deref() == Some("ExternalName") {
        return rules;
    }
    let family = settings.family();
    let declared = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip);
    rules.addresses = declared.filter_map(|address| of_family(family, address)).collect();
    if rules.addresses.is_empty() {
        return rules;
    }
    let exposed = matches!(spec.type_.as_deref(), Some("NodePort" | "LoadBalancer"));
    let external: BTreeSet<IpAddr> = spec.external_ips.iter().flatten().filter_map(|address| of_family(family, address)).collect();
    let balanced = if spec.type_.as_deref() == Some("LoadBalancer") { balancer_addresses(family, service) } else { BTreeSet::new() };
    let accessible = exposed || !external.is_empty();
    let internal_local = spec.internal_traffic_policy.as_deref() == Some("Local");
    let external_local = accessible && spec.external_traffic_policy.as_deref() == Some("Local");
    let affinity = (spec.session_affinity.as_deref() == Some("ClientIP")).then(|| {
        let configured = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref()?.timeout_seconds);
        configured.and_then(|seconds| u32::try_from(seconds).ok()).filter(|seconds| *seconds > 0).unwrap_or(10800)
    });

    for port in spec.ports.iter().flatten() {
        let (Some(protocol), Ok(port_number)) = (Protocol::parse(port.protocol.as_deref()), u16::try_from(port.port)) else { continue };
        let endpoints = of_port(slices, port.name.as_deref().unwrap_or_default(), settings);
        let choice = choose(&endpoints, !internal_local || accessible, internal_local || external_local, settings);
        let set = |list: &[(SocketAddr, bool)]| -> BTreeSet<Backend> { list.iter().map(|(at, local)| Backend { at: *at, local: *local }).collect() };
        let (cluster, local) = (set(&choice.cluster), set(&choice.local));

        let inner = Target {
            cluster: number,
            translation: Translation::Cluster,
            backends: if internal_local { local.clone() } else { cluster.clone() },
            outside: None,
            drop: choice.any,
            affinity,
            sources: Vec::new(),
        };
        let outer = Target {
            cluster: number,
            translation: if external_local { Translation::Inside } else { Translation::External },
            backends: cluster,
            outside: external_local.then_some(local),
            drop: choice.any,
            affinity,
            sources: Vec::new(),
        };
        let at = |address: IpAddr| Frontend { cluster: number, address: Some(address), protocol, port: port_number };
        let guarded = Target { sources: sources(family, spec.load_balancer_source_ranges.as_deref().unwrap_or_default()), ..outer.clone() };
        if number == 0 {
            rules.frontends.extend(balanced.iter().map(|address| (at(*address), guarded.clone())));
            rules.frontends.extend(external.iter().map(|address| (at(*address), outer.clone())));
        } else {
            let own = Target { translation: Translation::Cluster, outside: None, ..outer.clone() };
            let given = |address: &&IpAddr| matches!(address, IpAddr::V4(address) if held.contains_key(address));
            rules.frontends.extend(balanced.union(&external).filter(|address| !given(address)).map(|address| (at(*address), own.clone())));
            let public = |address: &IpAddr| Frontend { cluster: 0, address: Some(*address), protocol, port: port_number };
            rules.frontends.extend(balanced.iter().filter(given).map(|address| (public(address), guarded.clone())));
        }
        // What a process of the node serves is left to it.
        let name = format!("{}/{port_number}", port.protocol.as_deref().unwrap_or("TCP"));
        for address in held.iter().filter(|(_, proxied)| proxied.contains(&name)).map(|(address, _)| *address) {
            rules.frontends.remove(&Frontend { cluster: 0, address: Some(address.into()), protocol, port: port_number });
        }
        if let Some(node_port) = port.node_port.filter(|_| exposed).and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0) {
            rules.frontends.insert(Frontend { cluster: 0, address: None, protocol, port: node_port }, outer);
        }
        // Last: the Service's own address is its own, whatever else claims it.
        rules.frontends.extend(rules.addresses.iter().map(|address| (at(*address), inner.clone())));
    }
    rules
}

/// The host ports of a Pod of this node, of the cluster of this number. Pods on the host's network listen themselves; pods that ended have none.
pub fn host_port_rules(cluster: u16, pod: &Pod, settings: &ProxySettings) -> Rules {
    let mut rules = Rules { cluster, ..Rules::default() };
    let (Some(spec), Some(status)) = (&pod.spec, &pod.status) else { return rules };
    if spec.host_network == Some(true) || matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
        return rules;
    }
    let family = settings.family();
    let addresses = status.pod_ip.iter().chain(status.pod_ips.iter().flatten().map(|pod_ip| &pod_ip.ip));
    let Some(pod_address) = addresses.into_iter().find_map(|address| of_family(family, address)) else { return rules };
    let sidecars = spec.init_containers.iter().flatten().filter(|container| container.restart_policy.as_deref() == Some("Always"));
    for port in spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten()) {
        let number = |port: i32| u16::try_from(port).ok().filter(|port| *port != 0);
        let (Some(protocol), Some(host_port), Some(container_port)) =
            (Protocol::parse(port.protocol.as_deref()), port.host_port.and_then(number), number(port.container_port))
        else {
            continue;
        };
        let address = match port.host_ip.as_deref() {
            None | Some("" | "::") => None,
            Some("0.0.0.0") if family == IpFamily::V4 => None,
            Some(address) => match of_family(family, address) {
                // The kernel routes nothing from loopback to a pod.
                Some(address) if !address.is_loopback() && !address.is_unspecified() => Some(address),
                _ => continue,
            },
        };
        let backend = Backend { at: SocketAddr::new(pod_address, container_port), local: true };
        let target = Target {
            cluster,
            translation: Translation::Keep,
            backends: BTreeSet::from([backend]),
            outside: None,
            drop: false,
            affinity: None,
            sources: Vec::new(),
        };
        rules.frontends.insert(Frontend { cluster: 0, address, protocol, port: host_port }, target);
    }
    rules
}

/// Addresses a load balancer handed to the node; one that acts as a proxy keeps its own.
fn balancer_addresses(family: IpFamily, service: &Service) -> BTreeSet<IpAddr> {
    let ingress = service.status.iter().flat_map(|status| &status.load_balancer).flat_map(|status| status.ingress.iter().flatten());
    ingress.filter(|ingress| ingress.ip_mode.as_deref() != Some("Proxy")).filter_map(|ingress| of_family(family, ingress.ip.as_ref()?)).collect()
}

/// The ranges of the family without overlaps, which the kernel's interval sets refuse. Empty when everybody may connect.
fn sources(family: IpFamily, ranges: &[String]) -> Vec<IpNet> {
    let parsed = ranges.iter().filter_map(|range| range.trim().parse::<IpNet>().ok()).map(|range| range.trunc());
    let parsed: Vec<IpNet> = parsed.filter(|range| IpFamily::of(range.addr()) == family).collect();
    if parsed.iter().any(|range| range.prefix_len() == 0) {
        return Vec::new();
    }
    let mut ranges = IpNet::aggregate(&parsed);
    ranges.sort();
    ranges
}

fn of_family(family: IpFamily, address: &str) -> Option<IpAddr> {
    address.parse().ok().filter(|address| IpFamily::of(*address) == family)
}
