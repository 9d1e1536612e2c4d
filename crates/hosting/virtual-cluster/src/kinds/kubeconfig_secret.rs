//! KubeconfigSecret: that a Cluster's kubeconfig is there, and until when it is good; not what is in it.
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};

/// The type that sets kubeconfigs apart from all other Secrets, so that only they are followed.
pub const SECRET_TYPE: &str = "k3k.io/kubeconfig";
/// The annotation that says from when on the certificate in it should be a new one, in RFC 3339.
pub const RENEW_AFTER: &str = "k3k.io/renew-after";

/// A Secret without its data.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct KubeconfigSecret {
    pub metadata: ObjectMeta,
}

impl k8s_openapi::Resource for KubeconfigSecret {
    const API_VERSION: &'static str = "v1";
    const GROUP: &'static str = "";
    const KIND: &'static str = "Secret";
    const VERSION: &'static str = "v1";
    const URL_PATH_SEGMENT: &'static str = "secrets";
    type Scope = NamespaceResourceScope;
}

impl k8s_openapi::Metadata for KubeconfigSecret {
    type Ty = ObjectMeta;
    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
