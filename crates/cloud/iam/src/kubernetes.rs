//! Kubernetes' side: the definitions, the namespace and the signing keys in the host cluster, and following them.
use crate::administration::OWN;
use crate::definitions::definitions;
use crate::engine::AuditSink;
use crate::kinds::NAMESPACE;
use crate::server::PREFIX;
use crate::{Directory, Iam, IamError, IamSettings};
use api_cache::Source;
use api_client::{install_definitions, is_conflict, kube};
use clock::Clock;
use http::Request;
use serde_json::{Value, json};
use std::sync::Arc;

/// The group of all administrators of organisations, by the specification's table.
const ORG_ADMINS: &str = "k8s:org-admin";

/// Gives the host cluster IAM's kinds, the namespace of its Secrets, and the role of the platform's administrators.
///
/// # Errors
/// When the API refuses or can't be asked.
pub async fn install(client: &kube::Client) -> Result<(), kube::Error> {
    install_definitions(client, &definitions()).await?;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    create(client, "/api/v1/namespaces", &namespace).await?;
    for [role, binding] in [administrators(), self_service(), own_organization()] {
        create(client, "/apis/rbac.authorization.k8s.io/v1/clusterroles", &role).await?;
        create(client, "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", &binding).await?;
    }
    Ok(())
}

/// Starts IAM on the cluster that `source` and `client` lead to; it answers once this is done.
pub async fn start(settings: IamSettings, source: &dyn Source, client: kube::Client, clock: Arc<dyn Clock>, audit: AuditSink) -> Result<Arc<Iam>, IamError> {
    let directory = Directory::follow(source);
    directory.synced().await;
    let iam = Iam::new(settings, directory, client, clock, audit)?;
    iam.ensure_keys().await?;
    Ok(iam)
}

/// The specification's ClusterRole for access to nodes, and its binding.
fn administrators() -> [Value; 2] {
    let name = "plasmacloud-cluster-admin";
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name},
        "rules": [
            {"apiGroups": [""], "resources": ["nodes", "persistentvolumes"], "verbs": ["*"]},
            {"apiGroups": ["storage.k8s.io"], "resources": ["storageclasses"], "verbs": ["*"]},
        ],
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": format!("{name}-binding")},
        "subjects": [{"kind": "Group", "name": "system:plasmacloud-admins", "apiGroup": "rbac.authorization.k8s.io"}],
        "roleRef": {"kind": "ClusterRole", "name": name, "apiGroup": "rbac.authorization.k8s.io"},
    });
    [role, binding]
}

/// That everybody may ask for what is theirs. What that is, IAM itself says.
fn self_service() -> [Value; 2] {
    let paths = ["token", "key", "revoke", "password"].map(|path| format!("{PREFIX}{path}"));
    at_paths("plasmacloud:iam-self-service", json!(paths), json!(["post"]), "system:authenticated")
}

/// That administrators of organisations administer who belongs to them; within which, IAM itself says.
fn own_organization() -> [Value; 2] {
    let paths = [format!("{PREFIX}{OWN}*")];
    at_paths("plasmacloud:iam-own-organization", json!(paths), json!(["get", "post", "patch", "delete"]), ORG_ADMINS)
}

fn at_paths(name: &str, paths: Value, verbs: Value, group: &str) -> [Value; 2] {
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name},
        "rules": [{"nonResourceURLs": paths, "verbs": verbs}],
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name},
        "subjects": [{"kind": "Group", "name": group, "apiGroup": "rbac.authorization.k8s.io"}],
        "roleRef": {"kind": "ClusterRole", "name": name, "apiGroup": "rbac.authorization.k8s.io"},
    });
    [role, binding]
}

async fn create(client: &kube::Client, collection: &str, object: &Value) -> Result<(), kube::Error> {
    let request = Request::post(format!("{collection}?fieldManager=iam")).header(http::header::CONTENT_TYPE, "application/json");
    match client.request::<Value>(request.body(object.to_string().into_bytes()).map_err(kube::Error::HttpError)?).await {
        Err(error) if !is_conflict(&error) => Err(error),
        _ => Ok(()),
    }
}
