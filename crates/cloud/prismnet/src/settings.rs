//! Settings of the pod network: the node's, and what the CNI plugin reads of them from its configuration.
use crate::{Bandwidth, Error};
use api_meta::IpFamily;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

/// The router's device where nothing else is said.
pub const DEFAULT_BRIDGE: &str = "prism0";
/// Where leases are kept: a tmpfs, because they end with the network namespaces they are for, at the latest at a boot.
pub const DEFAULT_STATE_DIR: &str = "/run/k8shost/prismnet";
/// What is assumed where no uplink tells its MTU.
pub const DEFAULT_MTU: u32 = 1500;
/// What every link must carry for IPv6 (RFC 8200, section 5).
pub const LEAST_IPV6_MTU: u32 = 1280;

/// One node's part of the pod network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeNetwork {
    /// The node's own range; its first address is the gateway.
    pub pod_cidr: Ipv4Net,
    /// All pods of all nodes: traffic within it keeps its source address.
    pub cluster_cidr: Ipv4Net,
    /// Service addresses get a route to the router, so that a node without default route reaches Services too.
    pub service_cidr: Option<Ipv4Net>,
    /// Bytes. `None`: that of the uplink (the device of the default route).
    pub mtu: Option<u32>,
    /// The router's device, at most 15 bytes.
    pub bridge_name: String,
    pub state_dir: PathBuf,
    /// `None`: all pods are the host cluster's.
    pub virtual_clusters: Option<VirtualClusters>,
    /// More addresses that are this machine's own: at a virtual cluster's, its nodes take in what is for its API.
    pub own_addresses: Vec<Ipv4Addr>,
    /// Whether other nodes may join: packets leave room for a tunnel's headers.
    pub has_peers: bool,
    /// `None`: pods have IPv4 alone.
    pub second: Option<SecondRanges>,
}

/// The ranges of the second family, where pods have an address of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecondRanges {
    pub pod_cidr: Ipv6Net,
    pub cluster_cidr: Ipv6Net,
    pub service_cidr: Option<Ipv6Net>,
}

/// A node's ranges of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ranges {
    pub family: IpFamily,
    pub pod_cidr: IpNet,
    pub cluster_cidr: IpNet,
    pub service_cidr: Option<IpNet>,
    pub gateway: IpAddr,
}

/// How virtual clusters are told apart on a node, and where they reach what is theirs on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VirtualClusters {
    /// The addresses that mean a cluster: the range's first plus the cluster's number. All of them are the node's own.
    pub range: Ipv4Net,
    /// Where the API answers at such an address.
    pub api_port: u16,
    /// Where DNS does, over UDP and TCP.
    pub dns_port: u16,
}

impl NodeNetwork {
    pub fn new(pod_cidr: Ipv4Net, cluster_cidr: Ipv4Net) -> Self {
        Self {
            pod_cidr: pod_cidr.trunc(),
            cluster_cidr: cluster_cidr.trunc(),
            service_cidr: None,
            mtu: None,
            bridge_name: DEFAULT_BRIDGE.into(),
            state_dir: DEFAULT_STATE_DIR.into(),
            virtual_clusters: None,
            own_addresses: Vec::new(),
            has_peers: false,
            second: None,
        }
    }

    /// Its ranges, one family after the other.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = Ranges> {
        let first = Ranges {
            family: IpFamily::V4,
            pod_cidr: self.pod_cidr.into(),
            cluster_cidr: self.cluster_cidr.into(),
            service_cidr: self.service_cidr.map(IpNet::V4),
            gateway: self.gateway().into(),
        };
        let second = self.second.map(|second| Ranges {
            family: IpFamily::V6,
            pod_cidr: second.pod_cidr.into(),
            cluster_cidr: second.cluster_cidr.into(),
            service_cidr: second.service_cidr.map(IpNet::V6),
            gateway: second_gateway(second.pod_cidr).into(),
        });
        std::iter::once(first).chain(second)
    }

    /// The router's address, every pod's gateway.
    pub fn gateway(&self) -> Ipv4Addr {
        gateway(self.pod_cidr)
    }

    pub fn check(&self) -> Result<(), Error> {
        let wrong = |reason: String| Err(Error::Settings(reason));
        if self.pod_cidr.prefix_len() > 30 {
            return wrong(format!("pod range {} has no room for pods", self.pod_cidr));
        }
        if !self.cluster_cidr.contains(&self.pod_cidr) {
            return wrong(format!("pod range {} is outside the cluster's range {}", self.pod_cidr, self.cluster_cidr));
        }
        if let Some(services) = self.service_cidr
            && (services.contains(&self.cluster_cidr) || self.cluster_cidr.contains(&services))
        {
            return wrong(format!("service range {services} overlaps the cluster's range {}", self.cluster_cidr));
        }
        if let Some(VirtualClusters { range, .. }) = &self.virtual_clusters {
            if !(16..=30).contains(&range.prefix_len()) {
                return wrong(format!("virtual cluster range {range} has not between 2 and 65534 addresses to give"));
            }
            for other in [Some(self.cluster_cidr), self.service_cidr].into_iter().flatten() {
                if range.contains(&other) || other.contains(range) {
                    return wrong(format!("virtual cluster range {range} overlaps {other}"));
                }
            }
        }
        if let Some(SecondRanges { pod_cidr, cluster_cidr, service_cidr }) = self.second {
            if !cluster_cidr.contains(&pod_cidr) {
                return wrong(format!("pod range {pod_cidr} is outside the cluster's range {cluster_cidr}"));
            }
            if let Some(services) = service_cidr.filter(|services| services.contains(&cluster_cidr) || cluster_cidr.contains(services)) {
                return wrong(format!("service range {services} overlaps the cluster's range {cluster_cidr}"));
            }
            check_second(self.pod_cidr, pod_cidr).or_else(wrong)?;
            if let Some(mtu) = self.mtu.filter(|mtu| *mtu < LEAST_IPV6_MTU) {
                return wrong(format!("MTU {mtu} is less than the {LEAST_IPV6_MTU} that IPv6 needs"));
            }
        }
        if let Some(mtu) = self.mtu
            && !(576..=65535).contains(&mtu)
        {
            return wrong(format!("MTU {mtu} is not between 576 and 65535"));
        }
        check_interface_name(&self.bridge_name).or_else(wrong)
    }
}

/// The part of the CNI network configuration that is ours. The runtime adds keys of its own, so unknown ones are let pass.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkConf {
    pub cni_version: String,
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub bridge: String,
    #[serde(rename = "podCIDR")]
    pub pod_cidr: Ipv4Net,
    /// Where it is set, a port has an address of this range too.
    #[serde(rename = "secondPodCIDR", default, skip_serializing_if = "Option::is_none")]
    pub second_pod_cidr: Option<Ipv6Net>,
    pub mtu: u32,
    pub state_dir: PathBuf,
    /// Where it is set, a pod whose cluster nobody told gets no port.
    #[serde(rename = "virtualClusterCIDR", default, skip_serializing_if = "Option::is_none")]
    pub virtual_cluster_cidr: Option<Ipv4Net>,
    /// What the runtime shall pass in `runtime_config`.
    #[serde(default)]
    pub capabilities: BTreeMap<String, bool>,
    #[serde(default, skip_serializing)]
    pub runtime_config: RuntimeConfig,
}

/// What the runtime says of one call by capabilities.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct RuntimeConfig {
    #[serde(default)]
    pub bandwidth: Option<Bandwidth>,
}

impl NetworkConf {
    pub fn gateway(&self) -> Ipv4Addr {
        gateway(self.pod_cidr)
    }

    pub fn second_gateway(&self) -> Option<Ipv6Addr> {
        self.second_pod_cidr.map(second_gateway)
    }

    /// Every pod's gateways, one of each family.
    pub(crate) fn gateways(&self) -> Vec<IpAddr> {
        std::iter::once(IpAddr::V4(self.gateway())).chain(self.second_gateway().map(IpAddr::V6)).collect()
    }
}

/// Whether the second range has a place for each of the first.
pub(crate) fn check_second(first: Ipv4Net, second: Ipv6Net) -> Result<(), String> {
    let room = |width: u8, prefix: u8| width - prefix;
    if room(128, second.prefix_len()) < room(32, first.prefix_len()) {
        return Err(format!("pod range {second} has less room than {first}"));
    }
    Ok(())
}

/// Why `name` can't be a network interface's name.
pub(crate) fn check_interface_name(name: &str) -> Result<(), String> {
    let legal = !name.is_empty() && name.len() <= 15 && name != "." && name != ".." && !name.bytes().any(|b| b == b'/' || b == b':' || !b.is_ascii_graphic());
    if legal { Ok(()) } else { Err(format!("{name:?} is no name for a network interface")) }
}

fn gateway(pod_cidr: Ipv4Net) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(pod_cidr.network()).saturating_add(1))
}

fn second_gateway(pod_cidr: Ipv6Net) -> Ipv6Addr {
    Ipv6Addr::from(u128::from(pod_cidr.network()).saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_range_lies_inside_the_clusters() {
        let network = NodeNetwork::new("10.244.3.0/24".parse().unwrap(), "10.244.0.0/16".parse().unwrap());
        network.check().unwrap();
        assert_eq!(network.gateway(), Ipv4Addr::new(10, 244, 3, 1));
        let outside = NodeNetwork::new("10.1.0.0/24".parse().unwrap(), "10.244.0.0/16".parse().unwrap());
        assert!(outside.check().unwrap_err().to_string().contains("outside"));
        let overlap = NodeNetwork { service_cidr: Some("10.244.128.0/17".parse().unwrap()), ..network.clone() };
        assert!(overlap.check().unwrap_err().to_string().contains("overlaps"));
        let clusters = |range: &str| Some(VirtualClusters { range: range.parse().unwrap(), api_port: 6443, dns_port: 53 });
        NodeNetwork { virtual_clusters: clusters("100.64.0.0/16"), ..network.clone() }.check().unwrap();
        for (range, why) in [("100.64.0.0/10", "65534"), ("10.244.7.0/24", "overlaps")] {
            assert!(NodeNetwork { virtual_clusters: clusters(range), ..network.clone() }.check().unwrap_err().to_string().contains(why), "{range}");
        }
        let second = |pods: &str, cluster: &str| {
            let second = SecondRanges { pod_cidr: pods.parse().unwrap(), cluster_cidr: cluster.parse().unwrap(), service_cidr: None };
            NodeNetwork { second: Some(second), ..network.clone() }
        };
        let dual = second("fd42:0:0:3::/64", "fd42::/56");
        dual.check().unwrap();
        assert_eq!(dual.ranges().map(|ranges| ranges.gateway.to_string()).collect::<Vec<_>>(), ["10.244.3.1", "fd42:0:0:3::1"]);
        assert!(second("fd43::/64", "fd42::/56").check().unwrap_err().to_string().contains("outside"));
        assert!(second("fd42::/121", "fd42::/56").check().unwrap_err().to_string().contains("less room"));
        assert!(NodeNetwork { mtu: Some(1000), ..dual }.check().unwrap_err().to_string().contains("1280"));
        let long = NodeNetwork { bridge_name: "a-bridge-with-a-long-name".into(), ..network };
        assert!(long.check().is_err());
    }
}
