//! TenantRecord: what the store keeps of a virtual cluster itself. Not a served resource, and sealed on disk.
use api_meta::{ClusterName, ClusterSettings, GroupResource, KeyPair, object};
use bytes::Bytes;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::json;
use store::{Key, Record};

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TenantRecord {
    pub number: u32,
    pub settings: ClusterSettings,
    pub service_cidr: IpNet,
    pub cluster_dns: std::net::IpAddr,
    /// The authority of its client certificates.
    pub client_ca: KeyPair,
    /// Whether it is being taken away: what is left of it is nobody's any more.
    #[serde(default)]
    pub removed: bool,
    /// Whether pods may be held back from before, by a pause.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub held: bool,
    /// The wish its content was last restored by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored: Option<String>,
    /// Whether objects of a restore wait to be created again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unsettled: bool,
}

impl TenantRecord {
    pub fn resource() -> GroupResource {
        GroupResource::new("k8shost.io", "virtualclusters")
    }

    pub fn key(cluster: &ClusterName) -> Key {
        Key::new(cluster, &Self::resource(), "", "self")
    }

    pub fn encode(&self) -> Bytes {
        let value = json!({ "kind": "VirtualCluster", "apiVersion": "k8shost.io/v1", "metadata": { "name": "self" }, "spec": self });
        object::encode(value.as_object().expect("an object literal"))
    }

    pub fn decode(record: &Record) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct Whole {
            spec: TenantRecord,
        }
        serde_json::from_slice::<Whole>(&record.value).map(|whole| whole.spec)
    }
}
