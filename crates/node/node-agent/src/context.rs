//! AgentContext: what every pod's worker uses.
use crate::cgroup::Cgroups;
use crate::devices::NodeDevices;
use crate::events::EventRecorder;
use crate::image::ImagePuller;
use crate::machine::Machine;
use crate::pod::dns::DnsSettings;
use crate::pod::identity::PodId;
use crate::pod::resources::NodeLimits;
use crate::pod_table::PodTable;
use crate::settings::AgentSettings;
use api_cache::{Cache, HostedClusters, ObjectKey};
use api_client::Clients;
use clock::Clock;
use cri::Runtime;
use k8s_openapi::api::core::v1::{Pod, Service};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use volumes::{NodeFacts, VolumeManager};

/// Shared by all workers.
pub struct AgentContext {
    pub settings: AgentSettings,
    pub machine: Machine,
    /// Connects again by itself when the runtime restarts.
    pub runtime: Runtime,
    pub clients: Arc<dyn Clients>,
    pub clock: Arc<dyn Clock>,
    pub volumes: Arc<VolumeManager>,
    pub devices: Arc<NodeDevices>,
    pub events: EventRecorder,
    /// Pods of this node, of all clusters.
    pub pods: Arc<Cache<Pod>>,
    /// The virtual clusters, where this node may run their pods.
    pub clusters: Option<Arc<HostedClusters>>,
    /// Of all clusters: for environments.
    pub services: Arc<Cache<Service>>,
    pub images: ImagePuller,
    pub table: PodTable,
    pub cgroups: Cgroups,
    /// The host cluster's.
    pub dns: DnsSettings,
    pub limits: NodeLimits,
    pub facts: NodeFacts,
}

impl AgentContext {
    pub fn seccomp_root(&self) -> PathBuf {
        self.settings.data_dir.join("seccomp")
    }

    /// The node's addresses, primary first.
    pub fn host_ips(&self) -> Vec<String> {
        self.settings.node_ips.iter().map(ToString::to_string).collect()
    }

    /// How the pods of a cluster find names. A virtual cluster's ask its own DNS Service, and nobody else's while it has none.
    pub fn dns_of(&self, id: &PodId) -> DnsSettings {
        if id.cluster.is_root() {
            return self.dns.clone();
        }
        DnsSettings { cluster_dns: self.cluster_dns_of(id).into_iter().collect(), ..self.dns.clone() }
    }

    /// The address of a virtual cluster's DNS Service.
    pub fn cluster_dns_of(&self, id: &PodId) -> Option<IpAddr> {
        let service = self.services.get(&ObjectKey::new(&id.cluster, "kube-system", "kube-dns"));
        let address = service.as_ref().and_then(|service| service.spec.as_ref()?.cluster_ip.as_ref()?.parse().ok());
        address.or_else(|| self.clusters.as_ref()?.cluster_dns_of(&id.cluster))
    }

    /// A client of the pod's cluster.
    pub fn client(&self, id: &PodId) -> kube::Client {
        self.clients.cluster(&id.cluster)
    }
}
