//! Which endpoints of a Service serve, where: readiness, locality and topology hints, as kube-proxy decides.
//!
//! <https://kubernetes.io/docs/reference/networking/virtual-ips/>
use crate::settings::ProxySettings;
use api_meta::IpFamily;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// One endpoint of one Service port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortEndpoint {
    pub ready: bool,
    pub serving: bool,
    pub terminating: bool,
    pub local: bool,
    pub nodes: Vec<String>,
    pub zones: Vec<String>,
}

/// The endpoints to use, split by who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// For traffic any endpoint may serve.
    pub cluster: Vec<(SocketAddr, bool)>,
    /// For traffic that must stay on this node.
    pub local: Vec<(SocketAddr, bool)>,
    /// Whether anybody anywhere serves: if not, connections are refused instead of dropped.
    pub any: bool,
}

/// A Service port's endpoints in the slices, one for each address and port.
pub fn of_port(slices: &[impl AsRef<EndpointSlice>], port_name: &str, settings: &ProxySettings) -> BTreeMap<SocketAddr, PortEndpoint> {
    let mut found = BTreeMap::new();
    let family = settings.family();
    for slice in slices.iter().map(AsRef::as_ref).filter(|slice| slice.address_type == family.name()) {
        let ports = slice.ports.iter().flatten().filter(|port| port.name.as_deref().unwrap_or_default() == port_name);
        for port in ports.filter_map(|port| u16::try_from(port.port?).ok()) {
            for endpoint in slice.endpoints.iter().flatten() {
                let address = endpoint.addresses.first().and_then(|address| address.parse::<IpAddr>().ok()).filter(|address| IpFamily::of(*address) == family);
                // While an endpoint moves between slices it is in both: the one that serves counts.
                if let Some(address) = address {
                    let state = state(endpoint, settings);
                    let known = found.entry(SocketAddr::new(address, port)).or_insert_with(PortEndpoint::default);
                    if state.ready || !known.ready {
                        *known = state;
                    }
                }
            }
        }
    }
    found
}

/// Chooses among a port's endpoints. `wants_cluster` and `wants_local` say which kinds of traffic there are.
pub fn choose(endpoints: &BTreeMap<SocketAddr, PortEndpoint>, wants_cluster: bool, wants_local: bool, settings: &ProxySettings) -> Choice {
    let pick = |wanted: &dyn Fn(&PortEndpoint) -> bool| endpoints.iter().filter(|(_, e)| wanted(e)).map(|(address, e)| (*address, e.local)).collect::<Vec<_>>();
    let leaving = |e: &PortEndpoint| e.serving && e.terminating;
    let mut choice = Choice::default();
    if wants_cluster {
        let near = topology(endpoints, settings);
        choice.cluster = pick(&|e| e.ready && near.includes(e, settings));
        if choice.cluster.is_empty() {
            choice.cluster = pick(&leaving);
        }
        choice.any = !choice.cluster.is_empty();
    }
    if wants_local {
        choice.any |= endpoints.values().any(|e| e.ready || leaving(e));
        choice.local = pick(&|e| e.local && e.ready);
        if choice.local.is_empty() {
            choice.local = pick(&|e| e.local && leaving(e));
        }
    }
    choice
}

fn state(endpoint: &Endpoint, settings: &ProxySettings) -> PortEndpoint {
    let conditions = endpoint.conditions.clone().unwrap_or_default();
    let ready = conditions.ready.unwrap_or(true);
    let hints = endpoint.hints.clone().unwrap_or_default();
    PortEndpoint {
        ready,
        serving: conditions.serving.unwrap_or(ready),
        terminating: conditions.terminating.unwrap_or(false),
        local: endpoint.node_name.as_deref() == Some(&settings.node_name),
        nodes: hints.for_nodes.into_iter().flatten().map(|node| node.name).collect(),
        zones: hints.for_zones.into_iter().flatten().map(|zone| zone.name).collect(),
    }
}

enum Topology {
    Anywhere,
    SameNode,
    SameZone,
}

impl Topology {
    fn includes(&self, endpoint: &PortEndpoint, settings: &ProxySettings) -> bool {
        match self {
            Self::Anywhere => true,
            Self::SameNode => endpoint.nodes.contains(&settings.node_name),
            Self::SameZone => settings.zone.as_ref().is_some_and(|zone| endpoint.zones.contains(zone)),
        }
    }
}

/// Hints count only if every ready endpoint has them and one names this node or zone.
fn topology(endpoints: &BTreeMap<SocketAddr, PortEndpoint>, settings: &ProxySettings) -> Topology {
    let ready = || endpoints.values().filter(|e| e.ready);
    let usable = |topology: &Topology| ready().any(|e| topology.includes(e, settings));
    if ready().all(|e| !e.nodes.is_empty()) && usable(&Topology::SameNode) {
        Topology::SameNode
    } else if ready().all(|e| !e.zones.is_empty()) && usable(&Topology::SameZone) {
        Topology::SameZone
    } else {
        Topology::Anywhere
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Endpoints from lines like `10.0.0.1 ready local node=n1 zone=z1`.
    fn endpoints(text: &str) -> BTreeMap<SocketAddr, PortEndpoint> {
        let parse = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let values = |key: &str| words.iter().filter_map(|word| word.strip_prefix(key)).map(str::to_owned).collect();
            let has = |word: &str| words.contains(&word);
            let endpoint = PortEndpoint {
                ready: has("ready"),
                serving: has("ready") || has("serving"),
                terminating: has("terminating"),
                local: has("local"),
                nodes: values("node="),
                zones: values("zone="),
            };
            (SocketAddr::new(words[0].parse().unwrap(), 80), endpoint)
        };
        text.lines().map(str::trim).filter(|line| !line.is_empty()).map(parse).collect()
    }

    #[track_caller]
    fn check(text: &str, wants_cluster: bool, wants_local: bool, cluster: &str, local: &str, any: bool) {
        let mut settings = ProxySettings::new("n1", "10.0.0.0/8".parse().unwrap());
        settings.zone = Some("z1".into());
        let choice = choose(&endpoints(text), wants_cluster, wants_local, &settings);
        let last = |address: &SocketAddr| address.ip().to_string().rsplit('.').next().unwrap().to_owned();
        let show = |list: &[(SocketAddr, bool)]| list.iter().map(|(address, _)| last(address)).collect::<Vec<_>>().join(" ");
        assert_eq!((show(&choice.cluster).as_str(), show(&choice.local).as_str(), choice.any), (cluster, local, any));
    }

    #[test]
    fn ready_endpoints_serve_before_those_that_leave() {
        check("10.0.0.1 ready\n10.0.0.2 serving terminating\n10.0.0.3", true, false, "1", "", true);
        check("10.0.0.2 serving terminating\n10.0.0.3\n10.0.0.4 terminating", true, false, "2", "", true);
        check("10.0.0.3", true, false, "", "", false);
    }

    #[test]
    fn local_traffic_stays_on_the_node() {
        check("10.0.0.1 ready\n10.0.0.2 ready local", true, true, "1 2", "2", true);
        check("10.0.0.1 ready\n10.0.0.2 serving terminating local", false, true, "", "2", true);
        check("10.0.0.1 ready", false, true, "", "", true);
        check("10.0.0.1", false, true, "", "", false);
    }

    #[test]
    fn hints_count_only_when_all_have_them() {
        check("10.0.0.1 ready zone=z1\n10.0.0.2 ready zone=z2", true, false, "1", "", true);
        check("10.0.0.1 ready zone=z1\n10.0.0.2 ready", true, false, "1 2", "", true);
        check("10.0.0.1 ready zone=z2\n10.0.0.2 ready zone=z2", true, false, "1 2", "", true);
        check("10.0.0.1 ready zone=z1 node=n2\n10.0.0.2 ready zone=z1 node=n1", true, false, "2", "", true);
        check("10.0.0.1 ready zone=z1 node=n2\n10.0.0.2 ready zone=z2 node=n2", true, false, "1", "", true);
    }
}
