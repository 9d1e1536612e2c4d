//! PrismNET: the pod network. Addresses, logical switches and ports, the node's router, and the CNI plugin.

mod address_file;
mod address_pool;
mod bandwidth;
pub mod cni;
mod engine;
mod error;
pub mod isolation;
pub mod kubernetes;
mod link_changes;
mod loopback;
mod native_engine;
mod netlink;
mod netlink_peers;
mod network_namespace;
mod nft;
pub mod node;
pub mod peer_links;
pub mod peers;
mod plan;
mod pod_clusters;
pub mod policy;
mod server;
mod settings;
mod sources;

pub use address_file::AddressFile;
pub use address_pool::{AddressPool, Lease};
pub use bandwidth::Bandwidth;
pub use engine::Engine;
pub use error::Error;
pub use native_engine::NativeEngine;
pub use network_namespace::NetworkNamespace;
pub use plan::{Attachment, PortPlan};
pub use pod_clusters::{PodCluster, PodClusters};
pub use server::run;
pub use settings::{NetworkConf, NodeNetwork, VirtualClusters};
