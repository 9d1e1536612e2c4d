//! The pod network of a cluster as the gRPC API shows it: switches are namespaces, ports pods, ACLs NetworkPolicies.
//!
//! ```text
//! switches.rs      which logical switches there are, and whose (pure)
//! ports.rs         the port of a pod (pure)
//! address_sets.rs  the pods that a name in an ACL stands for (pure)
//! acls.rs          one policy's ACLs, in OVN's words (pure)
//! view.rs          the caches, asked for what is the caller's and no more
//! api.rs           the calls
//! ```

mod acls;
mod address_sets;
mod api;
mod ports;
mod switches;
mod view;

pub use api::PodNetwork;
pub use view::{PodNetworkView, Watched};
