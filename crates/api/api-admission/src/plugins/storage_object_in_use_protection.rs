//! StorageObjectInUseProtection: claims and volumes carry a finalizer that keeps them while they are used.
use crate::request::{entry_list, items};
use crate::{AdmissionRequest, Operation, Plugin};
use api_meta::Status;
use api_resource::Lookup;
use async_trait::async_trait;

pub struct StorageObjectInUseProtection;

#[async_trait]
impl Plugin for StorageObjectInUseProtection {
    fn name(&self) -> &'static str {
        "StorageObjectInUseProtection"
    }

    async fn mutate(&self, request: &mut AdmissionRequest<'_>, _lookup: &dyn Lookup) -> Result<(), Status> {
        let finalizer = match (request.group, request.resource, request.subresource) {
            ("", "persistentvolumeclaims", "") => "kubernetes.io/pvc-protection",
            ("", "persistentvolumes", "") => "kubernetes.io/pv-protection",
            ("storage.k8s.io", "volumeattributesclasses", "") => "kubernetes.io/vac-protection",
            _ => return Ok(()),
        };
        if request.operation == Operation::Create && !items(&request.object()["metadata"]["finalizers"]).iter().any(|have| have == finalizer) {
            entry_list(request.metadata_mut(), "finalizers").push(finalizer.into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{World, ask};
    use serde_json::json;

    #[tokio::test]
    async fn a_new_claim_is_protected_once() {
        for given in [json!({}), json!({"metadata": {"finalizers": ["kubernetes.io/pvc-protection"]}})] {
            let answer = ask("persistentvolumeclaims").named("a", "c").creates(given).mutated(&StorageObjectInUseProtection, &World::default()).await.unwrap();
            assert_eq!(answer.object["metadata"]["finalizers"], json!(["kubernetes.io/pvc-protection"]));
        }
    }
}
