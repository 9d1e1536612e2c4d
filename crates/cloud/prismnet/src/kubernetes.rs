//! Kubernetes' side of names: which logical switch and port a pod has, as the runtime tells of it in CNI_ARGS.
use crate::peers::{Peer, SecondPeer};
use crate::pod_clusters::PodCluster;
use ipnet::Ipv6Net;
use k8s_openapi::api::core::v1::Node;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// What leads from one logical switch to another: the routers of all nodes together.
pub const LOGICAL_ROUTER: &str = "k8s-cluster-router";

/// The pod an attachment is for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodIdentity {
    pub namespace: String,
    pub name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
}

impl PodIdentity {
    /// Reads `K8S_POD_NAMESPACE=a;K8S_POD_NAME=b;K8S_POD_UID=c`. `None` when the container is no pod's.
    pub fn from_cni_args(arguments: &str) -> Option<Self> {
        let value = |key: &str| arguments.split(';').filter_map(|pair| pair.split_once('=')).find(|(k, _)| *k == key).map(|(_, v)| v.to_owned());
        Some(Self { namespace: value("K8S_POD_NAMESPACE")?, name: value("K8S_POD_NAME")?, uid: value("K8S_POD_UID").unwrap_or_default() })
    }
}

/// The node of this machine.
#[derive(Clone, Debug)]
pub struct OwnNode {
    pub name: String,
    /// What its Node object tells as InternalIP.
    pub address: IpAddr,
}

/// The nodes that have an address and a range for their pods, but for the one of this name; in order of their addresses.
pub fn peers_of<'a>(own: &str, nodes: impl Iterator<Item = &'a Node>) -> Vec<Peer> {
    let mut peers: Vec<Peer> = nodes.filter(|node| node.metadata.name.as_deref() != Some(own)).filter_map(peer).collect();
    peers.sort();
    peers
}

fn peer(node: &Node) -> Option<Peer> {
    let addresses: Vec<IpAddr> = node
        .status
        .as_ref()?
        .addresses
        .iter()
        .flatten()
        .filter(|address| address.type_ == "InternalIP")
        .filter_map(|address| address.address.parse().ok())
        .collect();
    let address = addresses.iter().find_map(|address| if let IpAddr::V4(address) = address { Some(*address) } else { None })?;
    let second_address = addresses.iter().find_map(|address| if let IpAddr::V6(address) = address { Some(*address) } else { None });
    let spec = node.spec.as_ref()?;
    let pod_cidr = spec.pod_cidrs.iter().flatten().chain(&spec.pod_cidr).find_map(|range| range.parse().ok())?;
    let second = second_range(node).map(|pod_cidr| SecondPeer { pod_cidr, address: second_address });
    Some(Peer { address, pod_cidr, second })
}

/// The IPv6 range of a node's pods, in clusters that have one.
pub fn second_range(node: &Node) -> Option<Ipv6Net> {
    node.spec.as_ref()?.pod_cidrs.iter().flatten().find_map(|range| range.parse().ok())
}

/// The logical switch of a namespace: in virtual clusters it names the cluster too.
pub fn logical_switch(namespace: &str, cluster: &PodCluster) -> String {
    switch_of(namespace, (cluster.number != 0).then_some(&*cluster.name))
}

/// The same by the virtual cluster's name.
pub fn switch_of(namespace: &str, cluster: Option<&str>) -> String {
    match cluster {
        None => format!("k8s-{namespace}"),
        Some(cluster) => format!("k8s-{namespace}@{cluster}"),
    }
}

/// The logical switch port of a container: `<pod>-<container id>`, or the container id for what is no pod.
pub fn logical_port(pod: Option<&PodIdentity>, container: &str) -> String {
    match pod {
        Some(pod) => format!("{}-{container}", pod.name),
        None => container.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_tell_their_ranges_of_each_family() {
        let node = |ranges: &[&str], addresses: &[&str]| -> Node {
            let addresses: Vec<_> = addresses.iter().map(|address| serde_json::json!({"type": "InternalIP", "address": address})).collect();
            let object = serde_json::json!({"metadata": {"name": "n"}, "spec": {"podCIDRs": ranges}, "status": {"addresses": addresses}});
            serde_json::from_value(object).unwrap()
        };
        let nodes = [
            node(&["10.42.1.0/24"], &["192.0.2.2"]),
            node(&["10.42.2.0/24", "fd42:0:0:2::/64"], &["192.0.2.3"]),
            node(&["10.42.3.0/24", "fd42:0:0:3::/64"], &["2001:db8::4", "192.0.2.4"]),
            node(&["fd42:0:0:5::/64"], &["2001:db8::5"]),
        ];
        let shown =
            |peer: &Peer| peer.ranges().map(|(range, address)| format!("{range} {}", address.map_or("-".into(), |a| a.to_string()))).collect::<Vec<_>>();
        assert_eq!(
            peers_of("own", nodes.iter()).iter().flat_map(shown).collect::<Vec<_>>(),
            ["10.42.1.0/24 192.0.2.2", "10.42.2.0/24 192.0.2.3", "fd42:0:0:2::/64 -", "10.42.3.0/24 192.0.2.4", "fd42:0:0:3::/64 2001:db8::4"]
        );
    }

    #[test]
    fn the_runtime_names_the_pod() {
        let pod =
            PodIdentity::from_cni_args("IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID=abc;K8S_POD_UID=u1").unwrap();
        assert_eq!(pod, PodIdentity { namespace: "shop".into(), name: "web-0".into(), uid: "u1".into() });
        assert_eq!(logical_switch(&pod.namespace, &PodCluster { number: 0, name: "root".into(), isolation: Default::default() }), "k8s-shop");
        assert_eq!(logical_port(Some(&pod), "abc"), "web-0-abc");
        assert_eq!(PodIdentity::from_cni_args("IgnoreUnknown=1"), None);
    }
}
