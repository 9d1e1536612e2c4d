//! Settings of the service proxy.
use crate::Error;
use api_meta::IpFamily;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// The table where nothing else is said.
pub const DEFAULT_TABLE: &str = "k8shost-proxy";
/// The bit of a packet's mark that says "give it the node's address"; the same as kube-proxy's.
pub const DEFAULT_MASQUERADE_BIT: u8 = 14;

/// What the proxy must know of its node and cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxySettings {
    /// Endpoints of this node are local.
    pub node_name: String,
    /// The node's topology zone, for topology hints.
    pub zone: Option<String>,
    /// All pods of all nodes: other sources that reach a Service address get the node's address. Services of its family
    /// are served.
    pub cluster_cidr: IpNet,
    /// The same of the other family, where pods have an address of each.
    pub second_cluster_cidr: Option<Ipv6Net>,
    /// The nftables table, one of each family. Two proxies in one network namespace need two.
    pub table: String,
    /// 0 to 14: the mark's upper half is the number of the cluster a packet travels for.
    pub masquerade_bit: u8,
    /// The addresses that mean virtual clusters, whose Services are served too; `None`: only the host cluster's are.
    pub virtual_cluster_cidr: Option<Ipv4Net>,
}

impl ProxySettings {
    pub fn new(node_name: &str, cluster_cidr: Ipv4Net) -> Self {
        Self {
            node_name: node_name.into(),
            zone: None,
            cluster_cidr: IpNet::V4(cluster_cidr.trunc()),
            second_cluster_cidr: None,
            table: DEFAULT_TABLE.into(),
            masquerade_bit: DEFAULT_MASQUERADE_BIT,
            virtual_cluster_cidr: None,
        }
    }

    pub fn family(&self) -> IpFamily {
        IpFamily::of(self.cluster_cidr.addr())
    }

    /// The settings of each family by itself.
    pub fn by_family(&self) -> Vec<Self> {
        let first = Self { second_cluster_cidr: None, ..self.clone() };
        let second = self.second_cluster_cidr.map(|range| Self { cluster_cidr: IpNet::V6(range.trunc()), ..first.clone() });
        std::iter::once(first.clone()).chain(second).collect()
    }

    pub fn check(&self) -> Result<(), Error> {
        if self.node_name.is_empty() {
            return Err(Error::Settings("the node has no name".into()));
        }
        if self.masquerade_bit > 14 {
            return Err(Error::Settings(format!("masquerade bit {} is not between 0 and 14", self.masquerade_bit)));
        }
        check_table(&self.table)
    }
}

/// Whether nft takes this for a table's name without quoting.
pub(crate) fn check_table(name: &str) -> Result<(), Error> {
    let legal =
        name.starts_with(|c: char| c.is_ascii_lowercase()) && name.len() <= 64 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if legal { Ok(()) } else { Err(Error::Settings(format!("{name:?} is no name for a table"))) }
}
