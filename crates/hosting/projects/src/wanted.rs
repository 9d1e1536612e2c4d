//! What a project is made of: the objects of its namespace, as the specification spells them.
use crate::kinds::{CustomRole, Project};
use crate::names::{CLUSTER, CREATED_BY, MANAGED_BY, MANAGER, ORG_LABEL, POD_SECURITY, PROJECT_LABEL, PROJECT_NAME, TENANT_TYPE, namespace, shared_namespace};
use serde_json::{Value, json};
use std::sync::Arc;

/// The kinds of objects, in the order they are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sort {
    Network,
    Quota,
    Role,
    RoleBinding,
    /// The virtual cluster itself, and what is inside of it.
    Cluster,
    ClusterRole,
    ClusterRoleBinding,
}

/// Metadata of the namespace.
pub fn namespace_metadata(project: &Project) -> Value {
    let id = project.metadata.name.as_deref().unwrap_or_default();
    let mut annotations = json!({ PROJECT_NAME: project.spec.display_name });
    if !project.spec.created_by.is_empty() {
        annotations[CREATED_BY] = project.spec.created_by.clone().into();
    }
    json!({
        "name": namespace(id),
        "labels": {ORG_LABEL: project.spec.organization, PROJECT_LABEL: id, TENANT_TYPE: "project", POD_SECURITY: "baseline"},
        "annotations": annotations,
    })
}

/// Metadata of the namespace that an organisation's projects share.
pub fn shared_metadata(organization: &str) -> Value {
    json!({
        "name": shared_namespace(organization),
        "labels": {ORG_LABEL: organization, TENANT_TYPE: "org-shared", POD_SECURITY: "baseline"},
        "annotations": {},
    })
}

/// All objects of a project's namespace.
pub fn objects(project: &Project, roles: &[Arc<CustomRole>]) -> Vec<(Sort, Value)> {
    let (id, organization) = (project.metadata.name.as_deref().unwrap_or_default(), project.spec.organization.as_str());
    let namespace = namespace(id);
    let mut all = quotas(&namespace);
    if project.spec.virtual_cluster {
        let spec = json!({"mode": "shared"});
        all.push((Sort::Cluster, json!({"apiVersion": "k3k.io/v1beta1", "kind": "Cluster", "metadata": metadata(&namespace, CLUSTER), "spec": spec})));
        return all;
    }
    all.push((Sort::Network, network(&namespace, "default-deny-all", deny_all())));
    if project.spec.org_shared {
        all.push((Sort::Network, network(&namespace, "allow-org-shared", allow_shared(organization))));
    }
    all.extend(administration(&namespace, organization));
    all.extend(bound(
        &namespace,
        "project-admin",
        json!([
            {"apiGroups": ["", "apps", "batch", "networking.k8s.io", "storage.k8s.io"], "resources": ["*"], "verbs": ["*"]},
        ]),
        &format!("project:{id}"),
    ));
    all.extend(bound(&namespace, "project-viewer", viewer_rules(), &format!("project:{id}:viewer")));
    for role in roles {
        let name = role.metadata.name.as_deref().unwrap_or_default();
        all.extend(bound(&namespace, &format!("custom-{name}"), json!(role.spec.rules), &format!("project:{id}:{name}")));
    }
    all
}

/// What is inside a project's virtual cluster: its members administer it, its viewers see it.
pub fn inside(project: &Project, roles: &[Arc<CustomRole>]) -> Vec<(Sort, Value)> {
    let (id, organization) = (project.metadata.name.as_deref().unwrap_or_default(), project.spec.organization.as_str());
    let mut all = vec![
        (Sort::ClusterRoleBinding, cluster_binding("plasmacloud:org-admin", "cluster-admin", &format!("org:{organization}"))),
        (Sort::ClusterRoleBinding, cluster_binding("plasmacloud:project-admin", "cluster-admin", &format!("project:{id}"))),
        (Sort::ClusterRoleBinding, cluster_binding("plasmacloud:project-viewer", "plasmacloud:project-viewer", &format!("project:{id}:viewer"))),
        (Sort::ClusterRole, cluster_role("plasmacloud:project-viewer", viewer_rules())),
    ];
    for role in roles {
        let name = role.metadata.name.as_deref().unwrap_or_default();
        let full = format!("plasmacloud:custom-{name}");
        all.push((Sort::ClusterRole, cluster_role(&full, json!(role.spec.rules))));
        all.push((Sort::ClusterRoleBinding, cluster_binding(&full, &full, &format!("project:{id}:{name}"))));
    }
    all
}

/// The role of an organisation's administrators in a namespace.
pub fn administration(namespace: &str, organization: &str) -> [(Sort, Value); 2] {
    bound(namespace, "org-admin", json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]), &format!("org:{organization}"))
}

fn viewer_rules() -> Value {
    json!([
        {
            "apiGroups": ["", "apps", "batch", "networking.k8s.io"],
            "resources": ["pods", "services", "deployments", "replicasets", "configmaps", "secrets"],
            "verbs": ["get", "list", "watch"],
        },
        {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get", "list"]},
    ])
}

fn metadata(namespace: &str, name: &str) -> Value {
    json!({"name": name, "namespace": namespace, "labels": {MANAGED_BY: MANAGER}})
}

fn bound(namespace: &str, role: &str, rules: Value, group: &str) -> [(Sort, Value); 2] {
    let api_version = "rbac.authorization.k8s.io/v1";
    let binding = metadata(namespace, &format!("{role}-binding"));
    [
        (Sort::Role, json!({"apiVersion": api_version, "kind": "Role", "metadata": metadata(namespace, role), "rules": rules})),
        (
            Sort::RoleBinding,
            json!({
                "apiVersion": api_version, "kind": "RoleBinding", "metadata": binding,
                "subjects": [{"kind": "Group", "name": group, "apiGroup": "rbac.authorization.k8s.io"}],
                "roleRef": {"kind": "Role", "name": role, "apiGroup": "rbac.authorization.k8s.io"},
            }),
        ),
    ]
}

fn cluster_role(name: &str, rules: Value) -> Value {
    json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name, "labels": {MANAGED_BY: MANAGER}}, "rules": rules})
}

fn cluster_binding(name: &str, role: &str, group: &str) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name, "labels": {MANAGED_BY: MANAGER}},
        "subjects": [{"kind": "Group", "name": group, "apiGroup": "rbac.authorization.k8s.io"}],
        "roleRef": {"kind": "ClusterRole", "name": role, "apiGroup": "rbac.authorization.k8s.io"},
    })
}

fn network(namespace: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata(namespace, name), "spec": spec})
}

fn deny_all() -> Value {
    json!({
        "podSelector": {},
        "policyTypes": ["Ingress", "Egress"],
        "egress": [{
            "to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}],
            "ports": [{"protocol": "UDP", "port": 53}],
        }],
    })
}

fn allow_shared(organization: &str) -> Value {
    json!({
        "podSelector": {},
        "policyTypes": ["Egress"],
        "egress": [{"to": [{"namespaceSelector": {"matchLabels": {ORG_LABEL: organization, TENANT_TYPE: "org-shared"}}}]}],
    })
}

fn quotas(namespace: &str) -> Vec<(Sort, Value)> {
    let quota = |name: &str, hard: Value| {
        (Sort::Quota, json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata(namespace, name), "spec": {"hard": hard}}))
    };
    vec![
        quota("project-compute-quota", json!({"requests.cpu": "10", "requests.memory": "20Gi", "limits.cpu": "20", "limits.memory": "40Gi"})),
        quota("project-storage-quota", json!({"persistentvolumeclaims": "10", "requests.storage": "100Gi"})),
        quota("project-object-quota", json!({"pods": "50", "services": "20", "services.loadbalancers": "5", "configmaps": "50", "secrets": "50"})),
    ]
}
