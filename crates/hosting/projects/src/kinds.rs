//! The kinds of IAM as these controllers see them: the parts they decide from.
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope};
use serde::{Deserialize, Serialize};
use serde_json::Value;

macro_rules! custom_kind {
    ($type:ty, $group:literal, $version:literal, $kind:literal, $plural:literal, $scope:ty) => {
        impl k8s_openapi::Resource for $type {
            const API_VERSION: &'static str = concat!($group, "/", $version);
            const GROUP: &'static str = $group;
            const KIND: &'static str = $kind;
            const VERSION: &'static str = $version;
            const URL_PATH_SEGMENT: &'static str = $plural;
            type Scope = $scope;
        }
        impl k8s_openapi::Metadata for $type {
            type Ty = ObjectMeta;
            fn metadata(&self) -> &ObjectMeta {
                &self.metadata
            }
            fn metadata_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    };
}

/// Written by patches only.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Project {
    pub metadata: ObjectMeta,
    #[serde(default)]
    pub spec: ProjectSpec,
    #[serde(default)]
    pub status: ProjectStatus,
}
custom_kind!(Project, "iam.plasmacloud.io", "v1", "Project", "projects", ClusterResourceScope);

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProjectSpec {
    pub display_name: String,
    pub organization: String,
    pub created_by: String,
    pub deletion_grace_period_seconds: Option<i64>,
    pub org_shared: bool,
    pub virtual_cluster: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProjectStatus {
    pub namespace: String,
    pub phase: String,
    pub message: String,
    pub delete_after: Option<Timestamp>,
    pub observed_generation: i64,
}

/// A role of an organisation's own. IAM's; Kubernetes' are what becomes of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct CustomRole {
    pub metadata: ObjectMeta,
    #[serde(default)]
    pub spec: CustomRoleSpec,
}
custom_kind!(CustomRole, "iam.plasmacloud.io", "v1", "Role", "roles", ClusterResourceScope);

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CustomRoleSpec {
    pub organization: String,
    pub rules: Vec<Value>,
}

/// A project's virtual cluster, as far as it matters whether it is served.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Cluster {
    pub metadata: ObjectMeta,
    #[serde(default)]
    pub spec: Value,
    #[serde(default)]
    pub status: ClusterStatus,
}
custom_kind!(Cluster, "k3k.io", "v1beta1", "Cluster", "clusters", NamespaceResourceScope);

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ClusterStatus {
    pub phase: String,
}
