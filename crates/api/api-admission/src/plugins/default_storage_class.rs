//! DefaultStorageClass: a claim that names no class gets the default one.
use crate::plugins::newest_default;
use crate::{AdmissionRequest, Operation, Plugin};
use api_meta::{GroupResource, Status};
use api_resource::Lookup;
use async_trait::async_trait;

const MARKS: [&str; 2] = ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];

pub struct DefaultStorageClass;

#[async_trait]
impl Plugin for DefaultStorageClass {
    fn name(&self) -> &'static str {
        "DefaultStorageClass"
    }

    async fn mutate(&self, request: &mut AdmissionRequest<'_>, lookup: &dyn Lookup) -> Result<(), Status> {
        if !request.is("", "persistentvolumeclaims") || request.operation != Operation::Create {
            return Ok(());
        }
        let claim = request.object();
        let named = !claim["spec"]["storageClassName"].is_null() || claim["metadata"]["annotations"].get("volume.beta.kubernetes.io/storage-class").is_some();
        if named {
            return Ok(());
        }
        if let Some(class) = newest_default(request, lookup, GroupResource::new("storage.k8s.io", "storageclasses"), &MARKS).await? {
            let name = class.meta().name.to_string();
            request.spec_mut().insert("storageClassName".into(), name.into());
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
    async fn the_newest_default_is_taken_unless_the_claim_says_something() {
        let class = |name: &str, created: &str, default: &str| {
            let metadata = json!({"name": name, "creationTimestamp": created, "annotations": {MARKS[0]: default}});
            ("storageclasses.storage.k8s.io", json!({ "metadata": metadata }))
        };
        let world = World::of([
            class("old", "2026-01-01T00:00:00Z", "true"),
            class("new", "2026-01-02T00:00:00Z", "true"),
            class("newest", "2026-01-03T00:00:00Z", "false"),
        ]);
        for (given, want) in [(json!({}), json!("new")), (json!({"storageClassName": ""}), json!("")), (json!({"storageClassName": "x"}), json!("x"))] {
            let claim = json!({"spec": given});
            let answer = ask("persistentvolumeclaims").named("a", "c").creates(claim).mutated(&DefaultStorageClass, &world).await.unwrap();
            assert_eq!(answer.object["spec"]["storageClassName"], want);
        }
    }
}
