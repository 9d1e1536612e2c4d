//! The kinds of hosting as controllers see them: the parts they decide from, so that caches stay small.
mod cluster;
mod kubeconfig_secret;
mod policy;
mod snapshot;

pub use cluster::{AppliedPolicy, Cluster, ExposedHosts, Mode, Synced};
pub use kubeconfig_secret::{KubeconfigSecret, RENEW_AFTER, SECRET_TYPE};
pub use policy::Policy;
pub use snapshot::Snapshot;

use api_meta::ClusterName;
use controller_kit::{Kind, Kit, Objects};

/// Who writes, in managed fields.
pub const MANAGER: &str = "k3k";

/// One kind's objects in the host cluster alone. Virtual clusters may define the same kinds, and those hosts are none of ours.
pub fn of_host<K: Kind>(kit: &Kit, fields: Option<&str>) -> Objects<K> {
    kit.managed_by(MANAGER).of_cluster(&ClusterName::root(), fields)
}

/// What the types of custom kinds need to be cached and written like built-in ones.
macro_rules! custom_kind {
    ($type:ty, $kind:literal, $plural:literal, $scope:ty) => {
        custom_kind!($type, "k3k.io", "v1beta1", $kind, $plural, $scope);
    };
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
            type Ty = k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
            fn metadata(&self) -> &Self::Ty {
                &self.metadata
            }
            fn metadata_mut(&mut self) -> &mut Self::Ty {
                &mut self.metadata
            }
        }
    };
}
pub(crate) use custom_kind;
