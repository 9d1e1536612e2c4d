//! The write path: a `kube::Client` for any cluster, in-process or over TLS.
mod definitions;
mod hosting;
pub mod join;
mod kubeconfig;
mod remote;
mod tunnel;

use api_meta::ClusterName;

pub use definitions::install_definitions;
pub use hosting::{Access, ClusterSettings, Hosting, HostingError, JoinSecret, KeyPair, PodSecurityLevel, Restore, SnapshotFacts};
pub use kube;
pub use kubeconfig::{KubeconfigError, client_of_kubeconfig};
pub use remote::RemoteClients;
pub use tunnel::Tunnels;

/// Gives clients for clusters. `bin` fills it with the server's own pipeline (no network) or with a connection.
///
/// Every client acts as the identity it was made for; the server authorizes it like anybody's.
pub trait Clients: Send + Sync + 'static {
    /// A client of one cluster. Cheap: connections and services are shared.
    fn cluster(&self, cluster: &ClusterName) -> kube::Client;
}

/// Whether an API error has this HTTP code.
pub fn has_code(error: &kube::Error, code: u16) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == code)
}

pub fn is_not_found(error: &kube::Error) -> bool {
    has_code(error, 404)
}

/// A conflict: the object changed or already exists.
pub fn is_conflict(error: &kube::Error) -> bool {
    has_code(error, 409)
}
