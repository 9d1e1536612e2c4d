//! Names, labels and annotations of what projects are made of, as the specification has them.
pub use api_meta::projects::{MANAGED_BY, MANAGER, ORG_LABEL, PROJECT_LABEL, TENANT_TYPE};

pub const FINALIZER: &str = "iam.plasmacloud.io/project";
pub const PROJECT_NAME: &str = "plasmacloud.io/project-name";
pub const CREATED_BY: &str = "plasmacloud.io/created-by";
pub const POD_SECURITY: &str = "pod-security.kubernetes.io/enforce";
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
