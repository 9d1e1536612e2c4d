//! Hosting: what a server of many clusters does for whoever manages them.
use api_meta::ClusterName;
pub use api_meta::{ClusterAccess as Access, ClusterSettings, JoinSecret, KeyPair, PodSecurityLevel, Restore, SnapshotFacts};
use async_trait::async_trait;

#[derive(Debug, thiserror::Error)]
pub enum HostingError {
    /// The settings can't be served; the message says why.
    #[error("{0}")]
    Refused(String),
    #[error("the cluster's data could not be read or written")]
    Store(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The clusters of a server, as whoever manages them sees it. `bin` fills it with the server itself.
#[async_trait]
pub trait Hosting: Send + Sync + 'static {
    /// Makes the cluster if it is not there, whole or not at all, and serves it by these settings from now on.
    async fn open(&self, cluster: &ClusterName, settings: ClusterSettings) -> Result<Access, HostingError>;

    /// Takes the cluster away with all it holds. What is gone already is no error.
    async fn remove(&self, cluster: &ClusterName) -> Result<(), HostingError>;

    /// Takes a snapshot of all that the cluster holds at one revision, under an id that names it from now on. One of that id is replaced.
    async fn snapshot(&self, cluster: &ClusterName, id: &str) -> Result<SnapshotFacts, HostingError>;

    /// Deletes a snapshot. What is gone already is no error.
    async fn forget_snapshot(&self, id: &str) -> Result<(), HostingError>;
}
