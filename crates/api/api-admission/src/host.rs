//! Host: what admission needs of the server besides its objects.
use crate::Way;
use api_auth::{Attributes, Decision};
use api_meta::{ClusterName, ClusterSettings};
use api_schema::SchemaRef;
use serde_json::Value;
use std::sync::Arc;

/// A resource as the server serves it.
#[derive(Clone, Debug)]
pub struct Served {
    pub group: String,
    pub version: String,
    pub kind: String,
    /// The plural.
    pub resource: String,
    pub namespaced: bool,
    pub schema: SchemaRef,
}

/// The server, as webhooks and policies see it. Everything here is answered from memory.
pub trait Host: Send + Sync {
    /// Whether a user may do something.
    fn authorize(&self, attributes: &Attributes<'_>) -> Decision;
    /// The resource that serves a kind; `None` when there is none.
    fn serves(&self, cluster: &ClusterName, group: &str, version: &str, kind: &str) -> Option<Served>;
    /// All served versions of a resource.
    fn versions(&self, cluster: &ClusterName, group: &str, resource: &str) -> Vec<Served>;
    /// Makes of a changed value an object of its kind again, which its `apiVersion` and `kind` name:
    /// unknown fields are dropped, types checked and what is missing filled in. The error is the decoder's.
    fn settle(&self, cluster: &ClusterName, object: &mut Value) -> Result<(), String>;
    /// What a virtual cluster is to the server; `None` for the host cluster.
    fn cluster_settings(&self, _: &ClusterName) -> Option<Arc<ClusterSettings>> {
        None
    }
    /// The virtual clusters that are hosted in a namespace of the host cluster.
    fn clusters_in(&self, _namespace: &str) -> Vec<ClusterName> {
        Vec::new()
    }
    /// How this server connects to where the cluster's objects lead it.
    fn way(&self, _: &ClusterName) -> Way {
        Way::Host
    }
    /// An object in another version of its kind.
    fn convert(&self, cluster: &ClusterName, object: &Value, version: &str) -> Result<Value, String>;
}
