//! DeviceAdminAccess: who looks after devices that others use does so from namespaces that are meant for it (KEP 5018).
use crate::request::items;
use crate::{AdmissionRequest, Operation, Plugin};
use api_meta::{FieldErrors, FieldPath, GroupResource, Status};
use api_resource::Lookup;
use async_trait::async_trait;
use serde_json::Value;

const LABEL: &str = "resource.kubernetes.io/admin-access";

pub struct DeviceAdminAccess;

#[async_trait]
impl Plugin for DeviceAdminAccess {
    fn name(&self) -> &'static str {
        "DeviceAdminAccess"
    }

    async fn validate(&self, request: &mut AdmissionRequest<'_>, lookup: &dyn Lookup) -> Result<(), Status> {
        // What a claim asks for never changes; what it got is written to its status.
        let (kind, places) = match (request.group, request.resource, request.subresource, request.operation) {
            ("resource.k8s.io", "resourceclaims", "", Operation::Create) => ("ResourceClaim", asked(&request.object()["spec"], "spec")),
            ("resource.k8s.io", "resourceclaims", "status", _) => {
                let results = |claim: &Value| claim["status"]["allocation"]["devices"]["results"].clone();
                let is_old = request.old.is_some_and(|old| results(old) == results(request.object()));
                ("ResourceClaim", if is_old { Vec::new() } else { given(request.object()) })
            }
            ("resource.k8s.io", "resourceclaimtemplates", "", Operation::Create) => {
                ("ResourceClaimTemplate", asked(&request.object()["spec"]["spec"], "spec.spec"))
            }
            _ => return Ok(()),
        };
        if places.is_empty() {
            return Ok(());
        }
        let namespace = lookup.get(request.cluster, &GroupResource::new("", "namespaces"), "", request.namespace).await?;
        if namespace.is_some_and(|namespace| namespace.value()["metadata"]["labels"][LABEL] == "true") {
            return Ok(());
        }
        let mut errors = FieldErrors::new();
        for place in places {
            errors.push(api_meta::FieldError::forbidden(
                &FieldPath::new(&place),
                format!("admin access to devices requires the `{LABEL}: true` label on the containing namespace"),
            ));
        }
        let name = request.object()["metadata"]["name"].as_str().unwrap_or_default();
        Err(Status::invalid("resource.k8s.io", kind, name, &errors))
    }
}

/// Where a claim asks for it.
fn asked(spec: &Value, path: &str) -> Vec<String> {
    let requests = items(&spec["devices"]["requests"]).iter().enumerate();
    requests.filter(|(_, request)| request["exactly"]["adminAccess"] == true).map(|(at, _)| format!("{path}.devices.requests[{at}].adminAccess")).collect()
}

/// Where a claim got it.
fn given(claim: &Value) -> Vec<String> {
    let results = items(&claim["status"]["allocation"]["devices"]["results"]).iter().enumerate();
    results.filter(|(_, result)| result["adminAccess"] == true).map(|(at, _)| format!("status.allocation.devices.results[{at}].adminAccess")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{World, ask};
    use serde_json::json;

    #[tokio::test]
    async fn devices_of_others_are_looked_after_where_that_is_allowed() {
        let world = World::of([
            ("namespaces", json!({"metadata": {"name": "plain"}})),
            ("namespaces", json!({"metadata": {"name": "admins", "labels": {LABEL: "true"}}})),
        ]);
        let claim = |admin: bool| json!({"metadata": {"name": "c"}, "spec": {"devices": {"requests": [{"name": "r", "exactly": {"adminAccess": admin}}]}}});
        let template = json!({"metadata": {"name": "t"}, "spec": claim(true)});
        let create = async |resource: &str, namespace: &str, object: Value| {
            let made = ask(resource).named(namespace, "c").creates(object).validated(&DeviceAdminAccess, &world).await;
            made.map(drop).map_err(|status| status.message)
        };
        let refused = create("resourceclaims.resource.k8s.io", "plain", claim(true)).await.unwrap_err();
        assert!(refused.contains("spec.devices.requests[0].adminAccess: Forbidden: admin access to devices requires"), "{refused}");
        assert!(create("resourceclaimtemplates.resource.k8s.io", "plain", template.clone()).await.is_err());
        assert!(create("resourceclaims.resource.k8s.io", "plain", claim(false)).await.is_ok());
        assert!(create("resourceclaims.resource.k8s.io", "admins", claim(true)).await.is_ok());
        assert!(create("resourceclaimtemplates.resource.k8s.io", "admins", template).await.is_ok());
    }
}
