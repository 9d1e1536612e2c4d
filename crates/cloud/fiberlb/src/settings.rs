//! Settings of FiberLB: of its controllers, and of its part on each node.
use crate::AddressPool;
use ipnet::Ipv4Net;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// The nftables table that keeps an address's other ports shut.
pub const DEFAULT_TABLE: &str = "k8shost-fiberlb";
/// The device that holds the addresses a node answers for.
pub const DEFAULT_DEVICE: &str = "fiber0";

/// What the controllers go by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ControllerSettings {
    /// Empty: Services get the nodes' own addresses, port by port.
    pub pool: AddressPool,
    /// Ports of nodes that no Service gets, `TCP/6443`, and who has each.
    pub reserved_ports: BTreeMap<String, String>,
}

/// What FiberLB must know of the node it runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSettings {
    pub node_name: String,
    pub node_address: Ipv4Addr,
    pub pool: AddressPool,
    /// The addresses that mean virtual clusters; `None`: only the host cluster's Services are served.
    pub virtual_cluster_cidr: Option<Ipv4Net>,
    /// Two in one network namespace need two tables and devices.
    pub table: String,
    pub device: String,
}

impl NodeSettings {
    pub fn new(node_name: &str, node_address: Ipv4Addr, pool: AddressPool) -> Self {
        Self { node_name: node_name.into(), node_address, pool, virtual_cluster_cidr: None, table: DEFAULT_TABLE.into(), device: DEFAULT_DEVICE.into() }
    }
}
