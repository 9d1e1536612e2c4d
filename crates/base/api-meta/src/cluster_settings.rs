//! ClusterSettings: what a virtual cluster is to its server, and how it is reached.
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// What a virtual cluster is to the server that serves it. Kept with the cluster's own data.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterSettings {
    /// The range of its Service addresses; `None`: as the host cluster's. Only looked at when the cluster is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_cidr: Option<IpNet>,
    /// The address its pods ask for names; `None`: the tenth of its Service range. Only looked at when the cluster is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_dns: Option<IpAddr>,
    /// Its pods run on nodes with these labels, and only those are mirrored in it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// The Pod Security Standard that all its pods keep to, whatever its own namespaces say.
    #[serde(default)]
    pub pod_security: PodSecurityLevel,
    /// Whether nodes are mirrored with the labels, addresses and conditions they have in the host cluster.
    #[serde(default)]
    pub mirror_host_nodes: bool,
    /// Whether its pods run on machines of its own that join it, never on the host cluster's nodes.
    #[serde(default)]
    pub own_nodes: bool,
    /// What lets a machine join as one of its own nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub join_secret: Option<JoinSecret>,
    /// The host's StorageClasses with these labels are its StorageClasses; `None`: it has none of the host's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_classes: Option<BTreeMap<String, String>>,
    /// An authority of the operator's for its client certificates; `None`: the server makes one. Only looked at when the cluster is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_ca: Option<KeyPair>,
    /// TLS names that mean this cluster at this server, as far as they mean nothing else. Lower case, also addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tls_names: Vec<String>,
    /// Whether nothing of it runs and nobody but this server changes it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// Which snapshot its content is restored from, when it is made or this says something new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<Box<Restore>>,
}

/// A wish to have a cluster's content replaced by a snapshot's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Restore {
    /// The snapshot, as it was named when it was taken.
    pub snapshot: String,
    /// Told apart from others: a wish is fulfilled once.
    pub request: String,
}

/// What a snapshot of a cluster holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotFacts {
    /// The store's revision that all of it is of.
    pub revision: u64,
    pub objects: u64,
    /// Bytes on the disk.
    pub size: u64,
}

impl ClusterSettings {
    /// On each claim of a virtual cluster that has the host's StorageClasses: the labels of those it has, as `key=value,..`.
    ///
    /// Only the server writes it, so that it can be trusted.
    pub const HOST_CLASSES: &str = "k8shost.io/host-storage-classes";

    /// The scheduling gate of the pods of a paused cluster.
    pub const PAUSED_GATE: &str = "k8shost.io/paused";

    /// What claims of this cluster are given as [`Self::HOST_CLASSES`].
    pub fn host_classes(&self) -> Option<String> {
        let labels = self.storage_classes.as_ref()?.iter().map(|(key, value)| format!("{key}={value}"));
        Some(labels.collect::<Vec<_>>().join(","))
    }
}

/// The Pod Security Standards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PodSecurityLevel {
    Privileged,
    #[default]
    Baseline,
    Restricted,
}

/// A secret that is not shown where settings are.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JoinSecret(pub String);

impl std::fmt::Debug for JoinSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JoinSecret(..)")
    }
}

/// A certificate and its key, in PEM.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyPair {
    pub certificate_pem: String,
    pub key_pem: String,
}

impl std::fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyPair(..)")
    }
}

/// How a cluster is reached, and by whom it is administered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterAccess {
    /// `host:port` of the server, as a kubeconfig should name it.
    pub host: String,
    /// What follows the host in the cluster's URL: `/clusters/<name>`.
    pub path: String,
    /// The authority of the server's certificate.
    pub server_ca_pem: String,
    /// A client certificate of the group `system:masters`, new at each call.
    pub administrator: KeyPair,
    /// Where the cluster's own pods reach its API and DNS: an address that means this cluster and no other. `None` on a server without nodes.
    pub address: Option<IpAddr>,
    pub service_cidr: IpNet,
    pub cluster_dns: IpAddr,
    /// Which of its TLS names lead to it: those that meant nothing else when it asked for them.
    pub tls_names: Vec<String>,
}
