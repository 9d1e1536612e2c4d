//! Kubernetes' side of names: which logical switch and port a pod has, as the runtime tells of it in CNI_ARGS.
use crate::peers::Peer;
use crate::pod_clusters::PodCluster;
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
    let addresses = node.status.as_ref()?.addresses.iter().flatten();
    let address = addresses.filter(|address| address.type_ == "InternalIP").find_map(|address| address.address.parse().ok())?;
    let spec = node.spec.as_ref()?;
    let pod_cidr = spec.pod_cidrs.iter().flatten().chain(&spec.pod_cidr).find_map(|range| range.parse().ok())?;
    Some(Peer { address, pod_cidr })
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
    fn the_runtime_names_the_pod() {
        let pod =
            PodIdentity::from_cni_args("IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID=abc;K8S_POD_UID=u1").unwrap();
        assert_eq!(pod, PodIdentity { namespace: "shop".into(), name: "web-0".into(), uid: "u1".into() });
        assert_eq!(logical_switch(&pod.namespace, &PodCluster { number: 0, name: "root".into(), isolation: Default::default() }), "k8s-shop");
        assert_eq!(logical_port(Some(&pod), "abc"), "web-0-abc");
        assert_eq!(PodIdentity::from_cni_args("IgnoreUnknown=1"), None);
    }
}
