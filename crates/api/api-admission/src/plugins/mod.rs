//! The plugins, one file each.
pub mod certificate_approval;
pub mod certificate_signing;
pub mod certificate_subject_restriction;
pub mod cluster_trust_bundle_attest;
pub mod default_ingress_class;
pub mod default_storage_class;
pub mod default_toleration_seconds;
pub mod device_admin_access;
pub mod limit_ranger;
pub mod namespace_lifecycle;
pub mod node_restriction;
pub mod owner_references_permission_enforcement;
pub mod persistent_volume_claim_resize;
pub mod pod_security;
pub mod pod_topology_labels;
pub mod priority;
pub mod project_objects;
pub mod resource_quota;
pub mod runtime_class;
pub mod service_account;
mod signers;
pub mod storage_object_in_use_protection;
pub mod taint_nodes_by_condition;
pub mod virtual_cluster;

use api_meta::{GroupResource, Object, Status};
use api_resource::Lookup;
use serde_json::Value;
use std::sync::Arc;

/// The newest of the objects that an annotation marks as the default (by name among equally old ones).
async fn newest_default(
    request: &crate::AdmissionRequest<'_>,
    lookup: &dyn Lookup,
    resource: GroupResource,
    annotations: &[&str],
) -> Result<Option<Arc<Object>>, Status> {
    let marked = |object: &Object| {
        let value = object.value();
        annotations.iter().any(|annotation| value["metadata"]["annotations"][annotation] == "true")
    };
    let created = |object: &Object| object.value()["metadata"]["creationTimestamp"].as_str().unwrap_or_default().to_owned();
    let mut all = lookup.list(request.cluster, &resource, None).await?;
    all.retain(|object| marked(object));
    all.sort_by(|a, b| created(b).cmp(&created(a)).then_with(|| a.meta().name.cmp(&b.meta().name)));
    Ok(all.into_iter().next())
}

fn is_mirror_pod(pod: &Value) -> bool {
    pod["metadata"]["annotations"].get("kubernetes.io/config.mirror").is_some()
}

/// Errors as upstream joins them: one alone, more in brackets, none twice.
pub(crate) fn aggregate(errors: &[String]) -> String {
    let mut unique: Vec<&str> = Vec::new();
    for error in errors {
        if !unique.contains(&error.as_str()) {
            unique.push(error);
        }
    }
    match unique[..] {
        [one] => one.to_owned(),
        _ => format!("[{}]", unique.join(", ")),
    }
}
