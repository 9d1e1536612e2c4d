//! OwnerReferencesPermissionEnforcement: who makes an object somebody's dependant must be allowed to delete it.
use crate::request::items;
use crate::{AdmissionRequest, Operation, Plugin};
use api_auth::{Attributes, Decision};
use api_meta::{Status, split_api_version};
use api_resource::Lookup;
use async_trait::async_trait;
use serde_json::Value;

/// Off unless asked for, as upstream.
pub struct OwnerReferencesPermissionEnforcement;

#[async_trait]
impl Plugin for OwnerReferencesPermissionEnforcement {
    fn name(&self) -> &'static str {
        "OwnerReferencesPermissionEnforcement"
    }

    async fn validate(&self, request: &mut AdmissionRequest<'_>, _lookup: &dyn Lookup) -> Result<(), Status> {
        let writes = matches!(request.operation, Operation::Create | Operation::Update);
        if !writes || request.is_part("", "pods", "status") || owners(request.object()) == owners(request.old()) {
            return Ok(());
        }
        let own = Attributes {
            cluster: request.cluster,
            user: request.user,
            verb: "delete",
            group: request.group,
            version: request.version,
            resource: request.resource,
            subresource: request.subresource,
            namespace: request.namespace,
            name: request.name,
            path: "",
        };
        if let Some(reason) = refused(request, &own) {
            return Err(request.forbidden(format_args!("cannot set an ownerRef on a resource you can't delete: {reason}, <nil>")));
        }
        for owner in newly_blocking(request) {
            let text = |field: &str| owner[field].as_str().unwrap_or_default();
            let (api_version, kind, name) = (text("apiVersion"), text("kind"), text("name"));
            let (group, version) = split_api_version(api_version);
            let Some(served) = request.host.serves(request.cluster, group, version, kind) else {
                return Err(request.forbidden(format_args!(
                    "cannot set blockOwnerDeletion in this case because cannot find RESTMapping for APIVersion {api_version} Kind {kind}: no matches for kind {kind:?} in version {api_version:?}"
                )));
            };
            let namespace = if served.namespaced { request.namespace } else { "" };
            let finalizers = Attributes { verb: "update", group, version, resource: &served.resource, subresource: "finalizers", namespace, name, ..own };
            if let Some(reason) = refused(request, &finalizers) {
                return Err(request.forbidden(format_args!(
                    "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on: {reason}, <nil>"
                )));
            }
        }
        Ok(())
    }
}

fn refused(request: &AdmissionRequest<'_>, attributes: &Attributes<'_>) -> Option<String> {
    match request.host.authorize(attributes) {
        Decision::Allow(_) => None,
        decision => Some(decision.reason().to_owned()),
    }
}

fn owners(object: &Value) -> &[Value] {
    items(&object["metadata"]["ownerReferences"])
}

/// References that block their owner's deletion and did not before.
fn newly_blocking<'r>(request: &'r AdmissionRequest<'_>) -> Vec<&'r Value> {
    let blocks = |owner: &Value| owner["blockOwnerDeletion"] == true;
    let blocked = |owner: &Value| owners(request.old()).iter().any(|old| old["uid"] == owner["uid"] && blocks(old));
    owners(request.object()).iter().filter(|owner| blocks(owner) && !blocked(owner)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{World, ask};
    use serde_json::json;

    fn owned(blocking: bool) -> Value {
        let owner = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "u", "blockOwnerDeletion": blocking});
        json!({"metadata": {"name": "p", "namespace": "a", "ownerReferences": [owner]}})
    }

    #[tokio::test]
    async fn owners_are_set_by_those_who_may_delete_and_block() {
        let plain = || json!({"metadata": {"name": "p", "namespace": "a"}});
        for (old, new, allowed, want) in [
            (None, plain(), &[][..], None),
            (None, owned(false), &[][..], Some("cannot set an ownerRef on a resource you can't delete: , <nil>")),
            (None, owned(false), &["delete pods"][..], None),
            (
                None,
                owned(true),
                &["delete pods"][..],
                Some("cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on: , <nil>"),
            ),
            (None, owned(true), &["delete pods", "update replicasets/finalizers"][..], None),
            (Some(owned(true)), owned(true), &[][..], None),
            (Some(owned(true)), owned(false), &["delete pods"][..], None),
        ] {
            let asked = ask("pods").named("a", "p").allowed(allowed);
            let asked = match old {
                Some(old) => asked.updates(old, new),
                None => asked.creates(new),
            };
            let answer = asked.validated(&OwnerReferencesPermissionEnforcement, &World::default()).await;
            assert_eq!(answer.err().map(|s| s.message), want.map(|want| format!("pods \"p\" is forbidden: {want}")));
        }
    }
}
