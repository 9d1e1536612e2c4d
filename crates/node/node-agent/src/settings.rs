//! AgentSettings: everything that shapes a node agent.
use crate::{EvictionThresholds, PodNetwork};
use ipnet::{IpNet, Ipv4Net};
use k8s_openapi::api::core::v1::Taint;
use pki::Renewable;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How a node agent runs.
#[derive(Clone, Debug)]
pub struct AgentSettings {
    /// The Node object's name.
    pub node_name: String,
    /// The node's addresses, primary first; at least one.
    pub node_ips: Vec<IpAddr>,
    /// The agent's own files: volumes, logs, containerd.
    pub data_dir: PathBuf,
    /// Name servers of the host cluster's pods with dnsPolicy ClusterFirst. Those of virtual clusters ask their own.
    pub cluster_dns: Vec<IpAddr>,
    pub cluster_domain: String,
    /// Addresses of this node's pods, a range of each family: written to the Node's spec when it has none.
    pub pod_cidrs: Vec<IpNet>,
    /// The addresses that mean virtual clusters; `None`: this node runs none of their pods.
    pub virtual_cluster_cidr: Option<Ipv4Net>,
    /// Who is told a pod's cluster before its sandbox is made; `None`: nobody, so virtual clusters' pods get none.
    pub pod_network: Option<Arc<dyn PodNetwork>>,
    /// A CRI socket to use; `None` starts a containerd of our own.
    pub container_runtime_endpoint: Option<PathBuf>,
    /// Where the kubelet server listens: port 10250 by custom.
    pub streaming_address: SocketAddr,
    /// What the kubelet server shows; it has to be set.
    pub serving: Option<Arc<Renewable>>,
    /// The authority of those who may use the kubelet server.
    pub client_ca_pem: String,
    pub cni_bin_dir: PathBuf,
    pub cni_conf_dir: PathBuf,
    /// The cgroup that holds all pods, from the root of each hierarchy, such as `/kubepods`.
    pub cgroup_parent: String,
    pub max_pods: u32,
    /// Labels of the Node beside those every node has.
    pub labels: BTreeMap<String, String>,
    /// Taints the Node gets when it is first registered.
    pub taints: Vec<Taint>,
    /// What dnsPolicy Default copies.
    pub resolv_conf: PathBuf,
    /// Kept back from pods: resource name to quantity.
    pub reserved: BTreeMap<String, String>,
    /// Below these the node is under pressure; pods are not given them.
    pub eviction: EvictionThresholds,
    /// Sysctls that pods may set beside the safe ones: names, or prefixes ending in `*`.
    pub allowed_unsafe_sysctls: Vec<String>,
}

/// What a stopping agent does with its pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnShutdown {
    /// They run on; the next agent adopts them.
    LeavePods,
    /// They are ended, with at most this time each, and containerd too. Nothing of them stays on the machine.
    StopPods { grace: Duration },
}

impl AgentSettings {
    /// Settings with upstream's defaults. The data directory is the agent's alone.
    pub fn new(node_name: impl Into<String>, node_ip: IpAddr, data_dir: impl Into<PathBuf>) -> Self {
        let data_dir = data_dir.into();
        Self {
            node_name: node_name.into(),
            node_ips: vec![node_ip],
            cluster_dns: Vec::new(),
            cluster_domain: "cluster.local".into(),
            pod_cidrs: Vec::new(),
            virtual_cluster_cidr: None,
            pod_network: None,
            container_runtime_endpoint: None,
            streaming_address: SocketAddr::new(node_ip, 10250),
            serving: None,
            client_ca_pem: String::new(),
            cni_bin_dir: data_dir.join("cni/bin"),
            cni_conf_dir: data_dir.join("cni/net.d"),
            cgroup_parent: "/kubepods".into(),
            max_pods: 110,
            labels: BTreeMap::new(),
            taints: Vec::new(),
            resolv_conf: "/etc/resolv.conf".into(),
            reserved: BTreeMap::new(),
            eviction: EvictionThresholds::default(),
            allowed_unsafe_sysctls: Vec::new(),
            data_dir,
        }
    }
}
