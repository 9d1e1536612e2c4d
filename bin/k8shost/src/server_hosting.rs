//! ServerHosting: this server, as whoever manages its virtual clusters sees it.
use api_client::{Access, ClusterSettings, Hosting, HostingError, SnapshotFacts};
use api_meta::ClusterName;
use api_server::{ApiServer, ClusterError};
use async_trait::async_trait;
use std::sync::Arc;

pub struct ServerHosting(pub Arc<ApiServer>);

fn told(error: ClusterError) -> HostingError {
    match error {
        ClusterError::Refused(why) => HostingError::Refused(why),
        other => HostingError::Store(Box::new(other)),
    }
}

#[async_trait]
impl Hosting for ServerHosting {
    async fn open(&self, cluster: &ClusterName, settings: ClusterSettings) -> Result<Access, HostingError> {
        self.0.open_cluster(cluster, settings).await.map_err(told)
    }

    async fn remove(&self, cluster: &ClusterName) -> Result<(), HostingError> {
        self.0.remove_cluster(cluster).await.map_err(told)
    }

    async fn snapshot(&self, cluster: &ClusterName, id: &str) -> Result<SnapshotFacts, HostingError> {
        self.0.snapshot_cluster(cluster, id).await.map_err(told)
    }

    async fn forget_snapshot(&self, id: &str) -> Result<(), HostingError> {
        self.0.forget_snapshot(id).await.map_err(told)
    }
}
