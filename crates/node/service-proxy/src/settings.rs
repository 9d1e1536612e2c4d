//! Settings of the service proxy.
use crate::Error;
use ipnet::Ipv4Net;

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
    /// All pods of all nodes: other sources that reach a Service address get the node's address.
    pub cluster_cidr: Ipv4Net,
    /// The nftables table, of family ip. Two proxies in one network namespace need two.
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
            cluster_cidr: cluster_cidr.trunc(),
            table: DEFAULT_TABLE.into(),
            masquerade_bit: DEFAULT_MASQUERADE_BIT,
            virtual_cluster_cidr: None,
        }
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
