//! What a port shall be: names, addresses and routes, derived from the attachment alone.
use crate::address_pool::PortAddresses;
use crate::bandwidth::Bandwidth;
use crate::kubernetes::{PodIdentity, logical_port, logical_switch};
use crate::pod_clusters::PodCluster;
use crate::settings::NetworkConf;
use ipnet::IpNet;
use sha2::{Digest, Sha256};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

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
    /// Its IPv6 address, and the gateway's.
    pub second: Option<(Ipv6Addr, Ipv6Addr)>,
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
    pub fn new(conf: &NetworkConf, attachment: &Attachment, addresses: PortAddresses) -> Self {
        Self {
            logical_switch: attachment.pod.as_ref().map(|pod| logical_switch(&pod.namespace, &attachment.cluster)).unwrap_or_default(),
            logical_port: logical_port(attachment.pod.as_ref(), &attachment.container),
            host_interface: host_interface(&attachment.container, &attachment.interface),
            interface: attachment.interface.clone(),
            address: addresses.first,
            gateway: conf.gateway(),
            second: addresses.second.zip(conf.second_gateway()),
            hardware_address: hardware_address(addresses.first),
            mtu: conf.mtu,
            router: conf.bridge.clone(),
            cluster: attachment.cluster.number,
            bandwidth: conf.runtime_config.bandwidth.unwrap_or_default(),
        }
    }

    /// Its addresses with their gateways. A pod has addresses, not networks: everything goes through the router.
    pub fn addresses(&self) -> impl Iterator<Item = (IpNet, IpAddr)> {
        let first = (IpNet::from(IpAddr::V4(self.address)), IpAddr::V4(self.gateway));
        let second = self.second.map(|(address, gateway)| (IpNet::from(IpAddr::V6(address)), IpAddr::V6(gateway)));
        std::iter::once(first).chain(second)
    }

    /// The node end's hardware address, where the pod has it as a fixed neighbour; `None`: any.
    pub fn host_hardware_address(&self) -> Option<[u8; 6]> {
        let [_, _, a, b, c, d] = self.hardware_address;
        self.second.map(|_| [0x06, 0x58, a, b, c, d])
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
        let mut conf = NetworkConf {
            cni_version: "1.0.0".into(),
            name: "prismnet".into(),
            kind: "prismnet".into(),
            bridge: "prism0".into(),
            pod_cidr: "10.244.1.0/24".parse().unwrap(),
            second_pod_cidr: None,
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
        let mut addresses = PortAddresses { first: Ipv4Addr::new(10, 244, 1, 5), second: None };
        let plan = PortPlan::new(&conf, &attachment, addresses);
        assert_eq!(plan.alias(), "k8s-shop/web-0-c1");
        let shown = |plan: &PortPlan| plan.addresses().map(|(address, gateway)| format!("{address} {gateway}")).collect::<Vec<_>>();
        assert_eq!((shown(&plan), plan.host_hardware_address()), (vec!["10.244.1.5/32 10.244.1.1".to_owned()], None));
        assert_eq!(plan.hardware_address, [0x0a, 0x58, 10, 244, 1, 5]);
        assert_eq!(plan.host_interface.len(), 15);
        assert_ne!(host_interface("c1", "eth0"), host_interface("c1", "eth1"));
        attachment.cluster = PodCluster { number: 3, name: "dev.team-a".into(), isolation: Default::default() };
        assert_eq!(PortPlan::new(&conf, &attachment, addresses).alias(), "k8s-shop@dev.team-a/web-0-c1");
        (conf.second_pod_cidr, addresses.second) = (Some("fd42:0:0:1::/64".parse().unwrap()), Some("fd42:0:0:1::5".parse().unwrap()));
        let dual = PortPlan::new(&conf, &attachment, addresses);
        assert_eq!(shown(&dual), ["10.244.1.5/32 10.244.1.1", "fd42:0:0:1::5/128 fd42:0:0:1::1"]);
        assert_eq!(dual.host_hardware_address(), Some([0x06, 0x58, 10, 244, 1, 5]));
    }
}
