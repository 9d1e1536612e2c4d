//! Cluster: a virtual cluster as its owner wants it.
use super::custom_kind;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// What is decided from; every other field has no meaning without processes of the cluster's own. Written by patches only.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Cluster {
    pub metadata: ObjectMeta,
    #[serde(default)]
    pub spec: ClusterSpec,
    #[serde(default)]
    pub status: ClusterStatus,
}
custom_kind!(Cluster, "Cluster", "clusters", NamespaceResourceScope);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    #[default]
    Shared,
    Virtual,
    Hcp,
}

impl Mode {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Virtual => "virtual",
            Self::Hcp => "hcp",
        }
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterSpec {
    pub mode: Mode,
    #[serde(rename = "serviceCIDR")]
    pub service_cidr: String,
    #[serde(rename = "clusterDNS")]
    pub cluster_dns: String,
    pub node_selector: BTreeMap<String, String>,
    pub priority_class: String,
    pub mirror_host_nodes: bool,
    pub sync: Option<Box<Synced>>,
    pub expose: Option<Box<Expose>>,
    pub token_secret_ref: Option<Box<SecretReference>>,
    #[serde(rename = "customCAs")]
    pub custom_cas: Option<Box<CustomAuthorities>>,
    pub addons: Vec<Addon>,
    #[serde(rename = "tlsSANs")]
    pub tls_sans: Vec<String>,
}

/// Of what can be synced, that which is heeded.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Synced {
    pub storage_classes: Option<SyncedClasses>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SyncedClasses {
    pub enabled: Option<bool>,
    pub selector: Option<BTreeMap<String, Value>>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Expose {
    pub annotations: BTreeMap<String, String>,
    pub ingress: Option<ExposedHosts>,
    pub load_balancer: Option<ExposedPort>,
    pub node_port: Option<ExposedPort>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExposedHosts {
    pub annotations: BTreeMap<String, String>,
    pub ingress_class_name: String,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExposedPort {
    pub server_port: Option<i32>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SecretReference {
    pub name: String,
    pub namespace: String,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CustomAuthorities {
    pub enabled: bool,
    pub sources: AuthoritySources,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AuthoritySources {
    #[serde(rename = "clientCA")]
    pub client_ca: AuthoritySource,
    #[serde(rename = "serverCA")]
    pub server_ca: AuthoritySource,
    #[serde(rename = "serviceAccountToken")]
    pub service_account_token: AuthoritySource,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AuthoritySource {
    pub secret_name: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Addon {
    pub secret_namespace: String,
    pub secret_ref: String,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterStatus {
    pub phase: String,
    pub conditions: Vec<Condition>,
    pub policy_name: String,
    pub policy: Option<Box<AppliedPolicy>>,
    pub pod_security: String,
    pub host_version: String,
    pub paused: bool,
    pub restored_from: String,
}

/// What a policy sets for a Cluster, before the Cluster's own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AppliedPolicy {
    pub name: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub priority_class: String,
    /// What only is recorded: sync settings, and what K3k gives to the pods of servers and agents.
    #[serde(flatten)]
    pub recorded: BTreeMap<String, Value>,
}
