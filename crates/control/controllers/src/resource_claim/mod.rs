//! Resource claims: made from templates for pods, kept for those that use them, and let go with their devices after that (KEP 4381).
pub mod claims;
pub mod pods;
#[cfg(test)]
mod tests;

use crate::pods::{is_finished, is_terminating, node_name};
use controller_kit::ObjectKey;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::resource::v1::ResourceClaimConsumerReference;

/// Which claim of its pod a claim was made for.
const POD_CLAIM: &str = "resource.kubernetes.io/pod-claim-name";
/// Keeps a claim from going while it has devices.
const FINALIZER: &str = "resource.kubernetes.io/delete-protection";
/// Pods that may use one claim.
const MOST_USERS: usize = 256;

/// Whether a pod will not use its claims any more, or never.
fn is_done(pod: &Pod) -> bool {
    is_finished(pod) || (is_terminating(pod) && node_name(pod).is_empty())
}

/// The claims of a pod as far as they are known by name.
fn claims_of(pod: &Pod) -> Vec<&str> {
    let named = pod.spec.iter().flat_map(|spec| spec.resource_claims.iter().flatten()).filter_map(|claim| claim.resource_claim_name.as_deref());
    let made = pod.status.iter().flat_map(|status| status.resource_claim_statuses.iter().flatten()).filter_map(|made| made.resource_claim_name.as_deref());
    named.chain(made).collect()
}

fn has_claims(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.resource_claims.as_ref()).is_some_and(|claims| !claims.is_empty())
}

/// The pod that a claim is reserved for; `None` for users of other kinds, of which nothing is known here.
fn pod_of(claim: &ObjectKey, user: &ResourceClaimConsumerReference) -> Option<ObjectKey> {
    let is_pod = user.resource == "pods" && user.api_group.as_deref().is_none_or(str::is_empty);
    is_pod.then(|| ObjectKey::new(&claim.cluster, &claim.namespace, &user.name))
}
