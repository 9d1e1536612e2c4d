//! PersistentVolumeClaimResize: a claim grows only when its class lets it.
use crate::pod::resource_list;
use crate::{AdmissionRequest, Operation, Plugin};
use api_meta::{GroupResource, Status};
use api_resource::Lookup;
use async_trait::async_trait;
use serde_json::Value;

pub struct PersistentVolumeClaimResize;

#[async_trait]
impl Plugin for PersistentVolumeClaimResize {
    fn name(&self) -> &'static str {
        "PersistentVolumeClaimResize"
    }

    async fn validate(&self, request: &mut AdmissionRequest<'_>, lookup: &dyn Lookup) -> Result<(), Status> {
        if !request.is("", "persistentvolumeclaims") || request.operation != Operation::Update {
            return Ok(());
        }
        let storage = |claim: &Value| resource_list(&claim["spec"]["resources"]["requests"]).get("storage").copied();
        if storage(request.object()) <= storage(request.old()) {
            return Ok(());
        }
        if request.old()["status"]["phase"] != "Bound" {
            return Err(request.forbidden("Only bound persistent volume claims can be expanded"));
        }
        let class = |claim: &Value| {
            let annotation = claim["metadata"]["annotations"]["volume.beta.kubernetes.io/storage-class"].as_str();
            annotation.or(claim["spec"]["storageClassName"].as_str()).unwrap_or_default().to_owned()
        };
        let (new, old) = (class(request.object()), class(request.old()));
        let grows = if new.is_empty() || new != old {
            false
        } else {
            let found = lookup.get(request.cluster, &GroupResource::new("storage.k8s.io", "storageclasses"), "", &new).await?;
            found.is_some_and(|class| class.to_value()["allowVolumeExpansion"] == true)
        };
        if grows {
            Ok(())
        } else {
            Err(request.forbidden("only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{World, ask};
    use serde_json::json;

    #[tokio::test]
    async fn growth_needs_a_bound_claim_and_a_class_that_allows_it() {
        let world = World::of([
            ("storageclasses.storage.k8s.io", json!({"metadata": {"name": "grows"}, "allowVolumeExpansion": true})),
            ("storageclasses.storage.k8s.io", json!({"metadata": {"name": "fixed"}})),
        ]);
        let claim = |class: &str, size: &str, phase: &str| json!({"spec": {"storageClassName": class, "resources": {"requests": {"storage": size}}}, "status": {"phase": phase}});
        for (class, size, phase, want) in [
            ("grows", "2Gi", "Bound", true),
            ("grows", "2Gi", "Pending", false),
            ("fixed", "2Gi", "Bound", false),
            ("none", "2Gi", "Bound", false),
            ("fixed", "1Gi", "Bound", true),
        ] {
            let answer = ask("persistentvolumeclaims")
                .named("a", "c")
                .updates(claim(class, "1Gi", phase), claim(class, size, phase))
                .validated(&PersistentVolumeClaimResize, &world)
                .await;
            assert_eq!(answer.is_ok(), want, "{class} {size} {phase}");
        }
    }
}
