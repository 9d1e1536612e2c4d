//! The server's own objects, for authenticators and admission.
use crate::stored::stored;
use crate::{ApiServer, errors};
use api_meta::{ClusterName, GroupResource, Object, Status};
use api_resource::Lookup;
use async_trait::async_trait;
use std::sync::Arc;
use store::{Key, RangeRequest, Scope, Store};

/// What the store holds.
pub struct StoreLookup(pub Arc<dyn Store>);

#[async_trait]
impl Lookup for ApiServer {
    async fn get(&self, cluster: &ClusterName, resource: &GroupResource, namespace: &str, name: &str) -> Result<Option<Arc<Object>>, Status> {
        get(&*self.store, cluster, resource, namespace, name).await
    }
    async fn list(&self, cluster: &ClusterName, resource: &GroupResource, namespace: Option<&str>) -> Result<Vec<Arc<Object>>, Status> {
        list(&*self.store, cluster, resource, namespace).await
    }
}

#[async_trait]
impl Lookup for StoreLookup {
    async fn get(&self, cluster: &ClusterName, resource: &GroupResource, namespace: &str, name: &str) -> Result<Option<Arc<Object>>, Status> {
        get(&*self.0, cluster, resource, namespace, name).await
    }
    async fn list(&self, cluster: &ClusterName, resource: &GroupResource, namespace: Option<&str>) -> Result<Vec<Arc<Object>>, Status> {
        list(&*self.0, cluster, resource, namespace).await
    }
}

async fn get(store: &dyn Store, cluster: &ClusterName, resource: &GroupResource, namespace: &str, name: &str) -> Result<Option<Arc<Object>>, Status> {
    // A name with a slash can't be a key, and so can't exist.
    if namespace.contains('/') || name.contains('/') {
        return Ok(None);
    }
    let record = store.get(&Key::new(cluster, resource, namespace, name)).await.map_err(errors::from_store)?;
    Ok(record.map(|record| stored(&record).object.clone()))
}

async fn list(store: &dyn Store, cluster: &ClusterName, resource: &GroupResource, namespace: Option<&str>) -> Result<Vec<Arc<Object>>, Status> {
    let scope = Scope::Resource { cluster: cluster.clone(), resource: resource.clone(), namespace: namespace.map(str::to_owned) };
    let found = store.range(RangeRequest { scope, after: None, limit: 0, revision: None }).await.map_err(errors::from_store)?;
    Ok(found.records.iter().map(|record| stored(record).object.clone()).collect())
}
