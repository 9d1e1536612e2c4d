//! ProjectObjects: what the controllers of projects keep in a tenant's namespace is not the tenant's to change.
use crate::{AdmissionRequest, Operation, Plugin};
use api_auth::{Attributes, Decision};
use api_meta::Status;
use api_meta::projects::{MANAGED_BY, MANAGER, OWN_KEYS, PROJECT_LABEL, TENANT_TYPE};
use api_resource::Lookup;
use async_trait::async_trait;
use serde_json::{Map, Value};

/// Administrators of a project may do everything in its namespace, and RBAC counts the namespace itself as in it. Quotas,
/// isolation, roles and Pod Security are what bounds them, so only who may update projects changes these. It can't be
/// turned off: it is a wall between tenants.
pub struct ProjectObjects;

/// Labels of a namespace besides its own that bound what its pods may be.
const POD_SECURITY: &str = "pod-security.kubernetes.io/enforce";

#[async_trait]
impl Plugin for ProjectObjects {
    fn name(&self) -> &'static str {
        "ProjectObjects"
    }

    async fn validate(&self, request: &mut AdmissionRequest<'_>, _: &dyn Lookup) -> Result<(), Status> {
        if !request.cluster.is_root() || request.operation == Operation::Connect {
            return Ok(());
        }
        let why = if request.group.is_empty() && request.resource == "namespaces" { of_namespace(request) } else { of_object(request) };
        match why {
            Some(why) if !may_update_projects(request) => Err(request.forbidden(why)),
            _ => Ok(()),
        }
    }
}

fn of_object(request: &AdmissionRequest<'_>) -> Option<String> {
    let managed = |object: &Value| object["metadata"]["labels"][MANAGED_BY] == MANAGER;
    let what = match (managed(request.old()), managed(request.object())) {
        (true, _) => "it is part of what bounds the project",
        (false, true) => "its labels say that it is part of what bounds the project",
        (false, false) => return None,
    };
    Some(format!("{what}, and managed by {MANAGER:?} alone"))
}

fn of_namespace(request: &AdmissionRequest<'_>) -> Option<String> {
    let labels = &request.old()["metadata"]["labels"];
    if labels[PROJECT_LABEL].is_null() && labels[TENANT_TYPE].is_null() {
        // Who makes one says whose it is, but for tenants, who make none.
        return None;
    }
    let whole = "it is a project's, and goes with the project";
    if request.operation == Operation::Delete || !request.subresource.is_empty() {
        return Some(whole.to_owned());
    }
    let changed = ["labels", "annotations"].into_iter().find_map(|part| changed(&request.old()["metadata"][part], &request.object()["metadata"][part]));
    changed.map(|key| format!("{key:?} is managed by {MANAGER:?} alone"))
}

/// The first guarded key that is not as it was.
fn changed(old: &Value, new: &Value) -> Option<String> {
    let none = Map::new();
    let (old, new) = (old.as_object().unwrap_or(&none), new.as_object().unwrap_or(&none));
    let guarded = |key: &str| key.starts_with(OWN_KEYS) || key.starts_with(POD_SECURITY);
    old.keys().chain(new.keys()).find(|key| guarded(key) && old.get(*key) != new.get(*key)).cloned()
}

fn may_update_projects(request: &AdmissionRequest<'_>) -> bool {
    let attributes = Attributes {
        cluster: request.cluster,
        user: request.user,
        verb: "update",
        group: "iam.plasmacloud.io",
        version: "v1",
        resource: "projects",
        subresource: "",
        namespace: "",
        name: "",
        path: "",
    };
    matches!(request.host.authorize(&attributes), Decision::Allow(_))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Ask, World, ask};
    use serde_json::json;

    async fn refusal(ask: Ask) -> Option<String> {
        ask.validated(&ProjectObjects, &World::default()).await.err().map(|status| status.message)
    }

    #[tokio::test]
    async fn what_bounds_a_project_is_changed_by_who_manages_projects() {
        let quota =
            |labels: Value, pods: &str| json!({"metadata": {"name": "q", "namespace": "project-a", "labels": labels}, "spec": {"hard": {"pods": pods}}});
        let (ours, own) = (|| json!({"app.kubernetes.io/managed-by": "k8shost-projects"}), || json!({"app.kubernetes.io/managed-by": "Helm"}));
        let ask = || ask("resourcequotas").named("project-a", "q");
        let part = "resourcequotas \"q\" is forbidden: it is part of what bounds the project, and managed by \"k8shost-projects\" alone";
        let says = "resourcequotas \"q\" is forbidden: its labels say that it is part of what bounds the project, and managed by \"k8shost-projects\" alone";
        assert_eq!(refusal(ask().updates(quota(ours(), "1"), quota(ours(), "9"))).await.as_deref(), Some(part));
        assert_eq!(refusal(ask().updates(quota(ours(), "1"), quota(json!({}), "1"))).await.as_deref(), Some(part));
        assert_eq!(refusal(ask().deletes(quota(ours(), "1"))).await.as_deref(), Some(part));
        assert_eq!(refusal(ask().creates(quota(ours(), "1"))).await.as_deref(), Some(says));
        assert_eq!(refusal(ask().updates(quota(own(), "1"), quota(ours(), "1"))).await.as_deref(), Some(says));
        assert_eq!(refusal(ask().updates(quota(own(), "1"), quota(own(), "9"))).await, None);
        assert_eq!(refusal(ask().deletes(quota(own(), "1"))).await, None);
        let manages = || ask().allowed(&["update projects"]);
        assert_eq!(refusal(manages().updates(quota(ours(), "1"), quota(ours(), "9"))).await, None);
        assert_eq!(refusal(manages().deletes(quota(ours(), "1"))).await, None);
    }

    #[tokio::test]
    async fn a_projects_namespace_stays_whose_and_what_it_is() {
        let namespace = |security: &str, mine: &str, name: &str| {
            let labels = json!({"plasmacloud.io/project-id": "proj-a", "pod-security.kubernetes.io/enforce": security, "team": mine});
            json!({"metadata": {"name": "project-a", "labels": labels, "annotations": {"plasmacloud.io/project-name": name}}})
        };
        let before = || namespace("baseline", "red", "web");
        let ask = || ask("namespaces").named("project-a", "project-a");
        assert_eq!(refusal(ask().updates(before(), namespace("baseline", "blue", "web"))).await, None);
        let refused = "namespaces \"project-a\" is forbidden: \"pod-security.kubernetes.io/enforce\" is managed by \"k8shost-projects\" alone";
        assert_eq!(refusal(ask().updates(before(), namespace("privileged", "red", "web"))).await.as_deref(), Some(refused));
        assert!(refusal(ask().updates(before(), namespace("baseline", "red", "shop"))).await.is_some());
        let mut version = before();
        version["metadata"]["labels"]["pod-security.kubernetes.io/enforce-version"] = "v1.0".into();
        assert!(refusal(ask().updates(before(), version)).await.is_some());
        let whole = "namespaces \"project-a\" is forbidden: it is a project's, and goes with the project";
        assert_eq!(refusal(ask().deletes(before())).await.as_deref(), Some(whole));
        assert_eq!(refusal(ask().part("finalize").updates(before(), before())).await.as_deref(), Some(whole));
        assert_eq!(refusal(ask().allowed(&["update projects"]).deletes(before())).await, None);
        assert_eq!(refusal(ask().deletes(json!({"metadata": {"name": "other"}}))).await, None);
    }
}
