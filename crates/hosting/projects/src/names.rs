//! Names, labels and annotations of what projects are made of, as the specification has them.

pub const FINALIZER: &str = "iam.plasmacloud.io/project";
pub const ORG_LABEL: &str = "plasmacloud.io/org-id";
pub const PROJECT_LABEL: &str = "plasmacloud.io/project-id";
pub const TENANT_TYPE: &str = "plasmacloud.io/tenant-type";
pub const PROJECT_NAME: &str = "plasmacloud.io/project-name";
pub const CREATED_BY: &str = "plasmacloud.io/created-by";
pub const POD_SECURITY: &str = "pod-security.kubernetes.io/enforce";
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Who manages, in labels and managed fields.
pub const MANAGER: &str = "k8shost-projects";
/// The Cluster of a project that has one, and the label value of its namespace.
pub const CLUSTER: &str = "cluster";

/// `project-`, and the id without what all ids of projects start with.
pub fn namespace(project: &str) -> String {
    format!("project-{}", project.strip_prefix("proj-").unwrap_or(project))
}

/// The project whose namespace it would be.
pub fn project_of(namespace: &str) -> Option<String> {
    namespace.strip_prefix("project-").map(|rest| format!("proj-{rest}"))
}

/// `org-<id>-shared`; an id starts with `org-` already.
pub fn shared_namespace(organization: &str) -> String {
    format!("{organization}-shared")
}

pub fn organization_of(namespace: &str) -> Option<&str> {
    namespace.strip_suffix("-shared").filter(|organization| organization.starts_with("org-"))
}
