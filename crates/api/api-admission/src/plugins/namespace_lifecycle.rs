//! NamespaceLifecycle: nothing is made in a namespace that is missing or going, and three stay for good.
use crate::{AdmissionRequest, Operation, Plugin};
use api_meta::{GroupResource, Status, StatusCause};
use api_resource::Lookup;
use async_trait::async_trait;

const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

pub struct NamespaceLifecycle;

#[async_trait]
impl Plugin for NamespaceLifecycle {
    fn name(&self) -> &'static str {
        "NamespaceLifecycle"
    }

    async fn mutate(&self, request: &mut AdmissionRequest<'_>, lookup: &dyn Lookup) -> Result<(), Status> {
        let about_namespaces = request.group.is_empty() && request.resource == "namespaces";
        if about_namespaces && request.operation == Operation::Delete && request.subresource.is_empty() && IMMORTAL.contains(&request.name) {
            return Err(Status::forbidden("", "namespaces", request.name, "this namespace may not be deleted"));
        }
        let access_review = request.group == "authorization.k8s.io" && request.resource == "localsubjectaccessreviews";
        if about_namespaces || access_review || request.namespace.is_empty() || request.operation == Operation::Delete {
            return Ok(());
        }
        let namespace = request.namespace;
        let Some(found) = lookup.get(request.cluster, &GroupResource::new("", "namespaces"), "", namespace).await? else {
            return Err(Status::not_found("", "namespaces", namespace));
        };
        // The phase follows the deletion at once in our server; a deletion timestamp alone counts too.
        let terminating = found.meta().deletion_timestamp.is_some() || found.mentions("Terminating") && found.value()["status"]["phase"] == "Terminating";
        if request.operation != Operation::Create || !terminating {
            return Ok(());
        }
        Err(namespace_terminating(request.group, request.resource, request.display_name(), namespace))
    }
}

/// 403 for a new object in a namespace that is being deleted. `resource` is the plural.
pub fn namespace_terminating(group: &str, resource: &str, name: &str, namespace: &str) -> Status {
    let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
    Status::forbidden(group, resource, name, why).with_causes(vec![StatusCause {
        reason: "NamespaceTerminating".into(),
        message: format!("namespace {namespace} is being terminated"),
        field: "metadata.namespace".into(),
    }])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{World, ask};
    use serde_json::json;

    #[tokio::test]
    async fn content_needs_a_namespace_that_stays() {
        let world = World::of([
            ("namespaces", json!({"metadata": {"name": "a"}, "status": {"phase": "Active"}})),
            ("namespaces", json!({"metadata": {"name": "going", "deletionTimestamp": "2026-01-01T00:00:00Z"}, "status": {"phase": "Terminating"}})),
        ]);
        let create = |namespace: &'static str| ask("pods").named(namespace, "p").creates(json!({"metadata": {"name": "p"}}));
        create("a").mutated(&NamespaceLifecycle, &world).await.unwrap();
        let missing = create("none").mutated(&NamespaceLifecycle, &world).await.unwrap_err();
        assert_eq!((missing.code, missing.message.as_str()), (404, "namespaces \"none\" not found"));
        let going = create("going").mutated(&NamespaceLifecycle, &world).await.unwrap_err();
        assert_eq!(going.message, "pods \"p\" is forbidden: unable to create new content in namespace going because it is being terminated");
        assert_eq!(going.details.unwrap().causes[0].reason, "NamespaceTerminating");
        ask("pods").named("going", "p").updates(json!({}), json!({})).mutated(&NamespaceLifecycle, &world).await.unwrap();
        ask("pods").named("none", "p").deletes(json!({})).mutated(&NamespaceLifecycle, &world).await.unwrap();
        ask("nodes").named("", "n").creates(json!({})).mutated(&NamespaceLifecycle, &world).await.unwrap();
    }

    #[tokio::test]
    async fn three_namespaces_may_not_be_deleted() {
        for (name, may) in [("default", false), ("kube-system", false), ("kube-public", false), ("kube-node-lease", true), ("x", true)] {
            let answer = ask("namespaces").named(name, name).deletes(json!({})).mutated(&NamespaceLifecycle, &World::default()).await;
            assert_eq!(answer.is_ok(), may, "{name}");
            if let Err(status) = answer {
                assert_eq!(status.message, format!("namespaces \"{name}\" is forbidden: this namespace may not be deleted"));
            }
        }
    }
}
