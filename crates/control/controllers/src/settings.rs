//! Settings of the controllers.
use api_meta::ClusterName;
use std::sync::Arc;
use std::time::Duration;

#[derive(Clone)]
pub struct ControllersSettings {
    /// The PEM bundle a cluster's pods verify its API server with; published as kube-root-ca.crt.
    pub root_ca_pem: Arc<dyn Fn(&ClusterName) -> String + Send + Sync>,
    /// How long a node may be silent before it counts as unreachable.
    pub node_monitor_grace_period: Duration,
    /// Finished pods beyond this many in a cluster are deleted; 0 keeps all.
    pub terminated_pod_gc_threshold: usize,
    /// How many endpoints one EndpointSlice holds at most.
    pub max_endpoints_per_slice: usize,
}

impl ControllersSettings {
    /// Upstream's defaults, with one PEM bundle for all clusters.
    pub fn new(root_ca_pem: impl Into<String>) -> Self {
        let pem: String = root_ca_pem.into();
        Self {
            root_ca_pem: Arc::new(move |_| pem.clone()),
            node_monitor_grace_period: Duration::from_secs(50),
            terminated_pod_gc_threshold: 12_500,
            max_endpoints_per_slice: 100,
        }
    }
}
