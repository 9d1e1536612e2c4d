//! The node's Lease: the cheap sign of life that the node lifecycle controller watches.
use clock::Clock;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use kube::api::{Api, PostParams};
use std::time::Duration;

const NAMESPACE: &str = "kube-node-lease";
const SECONDS: i32 = 40;
/// A quarter of the lease, as upstream.
pub const RENEW: Duration = Duration::from_secs(10);

/// Renews, or creates, the lease. `before` spares reading it.
pub async fn renew(client: &kube::Client, node: &str, node_uid: Option<&str>, clock: &dyn Clock, before: Option<Lease>) -> Result<Lease, kube::Error> {
    let api: Api<Lease> = Api::namespaced(client.clone(), NAMESPACE);
    let now = Some(MicroTime(clock.now()));
    let spec = |before: Option<&LeaseSpec>| LeaseSpec {
        holder_identity: Some(node.into()),
        lease_duration_seconds: Some(SECONDS),
        renew_time: now.clone(),
        ..before.cloned().unwrap_or_default()
    };
    let owner =
        node_uid.map(|uid| vec![OwnerReference { api_version: "v1".into(), kind: "Node".into(), name: node.into(), uid: uid.into(), ..Default::default() }]);
    let before = match before {
        Some(lease) => Some(lease),
        None => api.get_opt(node).await?,
    };
    let Some(mut lease) = before else {
        let metadata = ObjectMeta { name: Some(node.into()), namespace: Some(NAMESPACE.into()), owner_references: owner, ..Default::default() };
        return api.create(&PostParams::default(), &Lease { metadata, spec: Some(spec(None)) }).await;
    };
    lease.spec = Some(spec(lease.spec.as_ref()));
    if lease.metadata.owner_references.as_ref().is_none_or(Vec::is_empty) {
        lease.metadata.owner_references = owner;
    }
    api.replace(node, &PostParams::default(), &lease).await
}
