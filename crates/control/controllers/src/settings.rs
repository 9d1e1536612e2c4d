//! Settings of the controllers.
use crate::{NodeRanges, Signer, TokenSigner};
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
    /// Who signs nodes' certificates; `None`: nobody, and requests are left to others.
    pub signer: Option<Arc<dyn Signer>>,
    /// Who signs the tokens kept in Secrets; `None`: nobody, and such Secrets are left to others.
    pub token_signer: Option<Arc<dyn TokenSigner>>,
    /// How long a token that no user asked for may be unused before it is invalid, and invalid before it goes.
    pub legacy_token_clean_up_period: Duration,
    /// Where nodes' pod ranges come from, of each family; none: nodes bring their own.
    pub node_ranges: Vec<NodeRanges>,
    /// The port at which every node answers DNS questions of its pods; `None`: the DNS Service is somebody else's.
    pub dns_port: Option<u16>,
    /// The name of the server's own node, which no machine that joins may take.
    pub own_node: Option<String>,
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
            signer: None,
            token_signer: None,
            legacy_token_clean_up_period: Duration::from_hours(24 * 365),
            node_ranges: Vec::new(),
            dns_port: None,
            own_node: None,
            max_endpoints_per_slice: 100,
        }
    }
}
