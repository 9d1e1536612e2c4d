//! Lookup: read access to the API's objects, for those that decide about requests.
use api_meta::{ClusterName, GroupResource, Object, Status};
use async_trait::async_trait;
use std::sync::Arc;

/// Reads objects as the API server holds them now. The server gives it to authenticators and admission.
#[async_trait]
pub trait Lookup: Send + Sync {
    /// One object, `None` when it isn't there. `namespace` is "" for cluster-scoped resources.
    async fn get(&self, cluster: &ClusterName, resource: &GroupResource, namespace: &str, name: &str) -> Result<Option<Arc<Object>>, Status>;
    /// All objects of a resource, in one namespace or in all.
    async fn list(&self, cluster: &ClusterName, resource: &GroupResource, namespace: Option<&str>) -> Result<Vec<Arc<Object>>, Status>;
}
