//! What a port shall be: names, addresses and routes, derived from the attachment alone.
use crate::bandwidth::Bandwidth;
use crate::kubernetes::{PodIdentity, logical_port, logical_switch};
use crate::pod_clusters::PodCluster;
use crate::settings::NetworkConf;
use ipnet::Ipv4Net;
use sha2::{Digest, Sha256};
use std::net::Ipv4Addr;

/// One interface of one container that shall be on the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    pub container: String,
    /// The interface's name inside, usually `eth0`.
    pub interface: String,
    pub pod: Option<PodIdentity>,
    pub cluster: PodCluster,
}

/// A port of the router: a veth pair, one end in the pod, the other on the node with a route to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortPlan {
    /// `k8s-<namespace>`, in a virtual cluster `k8s-<namespace>@<cluster>`; empty for what is no pod.
    pub logical_switch: String,
    /// `<pod>-<container id>`.
    pub logical_port: String,
    /// The node's end.
    pub host_interface: String,
    /// The pod's end.
    pub interface: String,
    pub address: Ipv4Addr,
    pub gateway: Ipv4Addr,
    /// The pod end's hardware address. It follows from the address, so a neighbour entry of a former holder is right too.
    pub hardware_address: [u8; 6],
    pub mtu: u32,
    /// The router's device on the node.
    pub router: String,
    /// Its cluster's number; 0 is the host cluster.
    pub cluster: u16,
    pub bandwidth: Bandwidth,
}

impl PortPlan {
    pub fn new(conf: &NetworkConf, attachment: &Attachment, address: Ipv4Addr) -> Self {
        Self {
            logical_switch: attachment.pod.as_ref().map(|pod| logical_switch(&pod.namespace, &attachment.cluster)).unwrap_or_default(),
            logical_port: logical_port(attachment.pod.as_ref(), &attachment.container),
            host_interface: host_interface(&attachment.container, &attachment.interface),
            interface: attachment.interface.clone(),
            address,
            gateway: conf.gateway(),
            hardware_address: hardware_address(address),
            mtu: conf.mtu,
            router: conf.bridge.clone(),
            cluster: attachment.cluster.number,
            bandwidth: conf.runtime_config.bandwidth.unwrap_or_default(),
        }
    }

    /// A pod has an address, not a network: everything goes through the router.
    pub fn prefix(&self) -> Ipv4Net {
        Ipv4Net::from(self.address)
    }

    /// What people see as the node end's alias: `k8s-shop/web-0-1234`.
    pub fn alias(&self) -> String {
        let mut alias = format!("{}/{}", self.logical_switch, self.logical_port);
        // The kernel's limit is 256 with the closing zero; names are ASCII.
        alias.truncate(255);
        alias
    }
}

/// The pod end's hardware address follows from its address.
pub fn hardware_address(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x0a, 0x58, a, b, c, d]
}

/// The same as people write it.
pub fn mac_address(address: Ipv4Addr) -> String {
    hardware_address(address).map(|byte| format!("{byte:02x}")).join(":")
}

/// The node end's name: `prism` and the start of a hash, as only 15 bytes fit.
pub fn host_interface(container: &str, interface: &str) -> String {
    let hash = Sha256::new().chain_update(container).chain_update([0]).chain_update(interface).finalize();
    let hex: String = hash.iter().take(5).map(|byte| format!("{byte:02x}")).collect();
    format!("prism{hex}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ports_names_follow_from_its_pod() {
        let conf = NetworkConf {
            cni_version: "1.0.0".into(),
            name: "prismnet".into(),
            kind: "prismnet".into(),
            bridge: "prism0".into(),
            pod_cidr: "10.244.1.0/24".parse().unwrap(),
            mtu: 1450,
            state_dir: "/x".into(),
            virtual_cluster_cidr: None,
            capabilities: Default::default(),
            runtime_config: Default::default(),
        };
        let mut attachment = Attachment {
            container: "c1".into(),
            interface: "eth0".into(),
            pod: Some(PodIdentity { namespace: "shop".into(), name: "web-0".into(), uid: String::new() }),
            cluster: PodCluster { number: 0, name: "root".into(), isolation: Default::default() },
        };
        let plan = PortPlan::new(&conf, &attachment, Ipv4Addr::new(10, 244, 1, 5));
        assert_eq!(plan.alias(), "k8s-shop/web-0-c1");
        assert_eq!(plan.prefix().to_string(), "10.244.1.5/32");
        assert_eq!(plan.gateway.to_string(), "10.244.1.1");
        assert_eq!(plan.hardware_address, [0x0a, 0x58, 10, 244, 1, 5]);
        assert_eq!(plan.host_interface.len(), 15);
        assert_ne!(host_interface("c1", "eth0"), host_interface("c1", "eth1"));
        attachment.cluster = PodCluster { number: 3, name: "dev.team-a".into(), isolation: Default::default() };
        assert_eq!(PortPlan::new(&conf, &attachment, plan.address).alias(), "k8s-shop@dev.team-a/web-0-c1");
    }
}
