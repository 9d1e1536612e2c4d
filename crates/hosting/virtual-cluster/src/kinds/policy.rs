//! Policy: what the Clusters of its namespaces may be and use (VirtualClusterPolicy).
use super::{Mode, custom_kind};
use api_client::PodSecurityLevel;
use k8s_openapi::ClusterResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Policy {
    pub metadata: ObjectMeta,
    #[serde(default)]
    pub spec: PolicySpec,
    #[serde(default)]
    pub status: PolicyStatus,
}
custom_kind!(Policy, "VirtualClusterPolicy", "virtualclusterpolicies", ClusterResourceScope);

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicySpec {
    pub allowed_mode: Mode,
    pub quota: Option<Value>,
    pub limit: Option<Value>,
    pub default_node_selector: BTreeMap<String, String>,
    pub default_priority_class: String,
    pub disable_network_policy: bool,
    pub pod_security_admission_level: Option<PodSecurityLevel>,
    pub sync: Option<Value>,
    pub default_server_affinity: Option<Value>,
    pub default_agent_affinity: Option<Value>,
    pub security_context: Option<Value>,
    pub runtime_class_name: Option<Value>,
    pub host_users: Option<Value>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyStatus {
    pub observed_generation: i64,
    pub conditions: Vec<Condition>,
}
