//! Pods and namespaces, as far as policies look at them: a node follows those of the whole cluster, so they are kept small.
use k8s_openapi::api::core::v1::{Container as WholeContainer, Namespace, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{Metadata, Resource};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::IpAddr;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    /// As the API names it; absent means TCP.
    pub fn of(name: Option<&str>) -> Option<Self> {
        match name {
            None | Some("" | "TCP") => Some(Self::Tcp),
            Some("UDP") => Some(Self::Udp),
            Some("SCTP") => Some(Self::Sctp),
            Some(_) => None,
        }
    }

    /// As nft names it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

/// What policies ask of a pod that has an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodFacts {
    pub uid: String,
    pub labels: BTreeMap<String, String>,
    /// One of each family that it has.
    pub addresses: Vec<IpAddr>,
    /// Named container ports.
    pub ports: Vec<(String, Protocol, u16)>,
    /// It runs here.
    pub local: bool,
}

impl PodFacts {
    /// `None` for pods that policies don't concern: without an address yet, at their end, or in the node's own network.
    pub fn of(pod: &PolicyPod, node_name: &str) -> Option<Self> {
        if pod.spec.host_network || matches!(pod.status.phase.as_str(), "Succeeded" | "Failed") {
            return None;
        }
        let mut addresses: Vec<IpAddr> = Vec::new();
        for address in std::iter::once(&pod.status.pod_ip).chain(pod.status.pod_ips.iter().map(|pod_ip| &pod_ip.ip)).filter_map(|ip| ip.parse().ok()) {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        if addresses.is_empty() {
            return None;
        }
        let sidecars = pod.spec.init_containers.iter().filter(|container| container.restart_policy == "Always");
        let ports = pod.spec.containers.iter().chain(sidecars).flat_map(|container| &container.ports).filter(|port| !port.name.is_empty());
        Some(Self {
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            labels: pod.metadata.labels.clone().unwrap_or_default(),
            addresses,
            ports: ports.filter_map(|port| Some((port.name.clone(), Protocol::of(port.protocol.as_deref())?, port.container_port))).collect(),
            local: pod.spec.node_name == node_name,
        })
    }
}

/// The parts of a Pod that [`PodFacts`] come from.
#[derive(Clone, Debug, Deserialize)]
pub struct PolicyPod {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: PodSpec,
    #[serde(default)]
    status: PodStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodSpec {
    node_name: String,
    host_network: bool,
    containers: Vec<Container>,
    init_containers: Vec<Container>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Container {
    restart_policy: String,
    ports: Vec<ContainerPort>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ContainerPort {
    name: String,
    container_port: u16,
    protocol: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodStatus {
    phase: String,
    #[serde(rename = "podIP")]
    pod_ip: String,
    #[serde(rename = "podIPs")]
    pod_ips: Vec<PodIp>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct PodIp {
    ip: String,
}

/// The same parts of a whole one.
impl From<&Pod> for PolicyPod {
    fn from(pod: &Pod) -> Self {
        let ObjectMeta { uid, labels, .. } = &pod.metadata;
        let metadata = ObjectMeta { uid: uid.clone(), labels: labels.clone(), ..ObjectMeta::default() };
        let (mut spec, mut status) = (PodSpec::default(), PodStatus::default());
        if let Some(whole) = &pod.spec {
            spec.node_name = whole.node_name.clone().unwrap_or_default();
            spec.host_network = whole.host_network.unwrap_or_default();
            spec.containers = whole.containers.iter().map(Container::from).collect();
            spec.init_containers = whole.init_containers.iter().flatten().map(Container::from).collect();
        }
        if let Some(whole) = &pod.status {
            status.phase = whole.phase.clone().unwrap_or_default();
            status.pod_ip = whole.pod_ip.clone().unwrap_or_default();
        }
        Self { metadata, spec, status }
    }
}

impl From<&WholeContainer> for Container {
    fn from(container: &WholeContainer) -> Self {
        let ports = container.ports.iter().flatten().filter_map(|port| {
            let container_port = u16::try_from(port.container_port).ok()?;
            Some(ContainerPort { name: port.name.clone().unwrap_or_default(), container_port, protocol: port.protocol.clone() })
        });
        Self { restart_policy: container.restart_policy.clone().unwrap_or_default(), ports: ports.collect() }
    }
}

/// The part of a Namespace that selectors look at.
#[derive(Clone, Debug, Deserialize)]
pub struct PolicyNamespace {
    metadata: ObjectMeta,
}

macro_rules! part_of {
    ($part:ty, $whole:ty) => {
        impl Resource for $part {
            const API_VERSION: &'static str = <$whole as Resource>::API_VERSION;
            const GROUP: &'static str = <$whole as Resource>::GROUP;
            const KIND: &'static str = <$whole as Resource>::KIND;
            const VERSION: &'static str = <$whole as Resource>::VERSION;
            const URL_PATH_SEGMENT: &'static str = <$whole as Resource>::URL_PATH_SEGMENT;
            type Scope = <$whole as Resource>::Scope;
        }
        impl Metadata for $part {
            type Ty = ObjectMeta;
            fn metadata(&self) -> &ObjectMeta {
                &self.metadata
            }
            fn metadata_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    };
}
part_of!(PolicyPod, Pod);
part_of!(PolicyNamespace, Namespace);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_has_its_addresses_of_each_family() {
        let facts = |status: serde_json::Value| {
            let pod: PolicyPod = serde_json::from_value(serde_json::json!({"metadata": {"name": "p"}, "status": status})).unwrap();
            PodFacts::of(&pod, "n").map(|facts| facts.addresses.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(facts(serde_json::json!({})), None);
        assert_eq!(facts(serde_json::json!({"podIP": "10.42.0.5"})), Some(vec!["10.42.0.5".into()]));
        let both = serde_json::json!({"podIP": "10.42.0.5", "podIPs": [{"ip": "10.42.0.5"}, {"ip": "fd42::5"}]});
        assert_eq!(facts(both), Some(vec!["10.42.0.5".into(), "fd42::5".into()]));
    }
}
