//! What marks objects that belong to projects of IAM: written by their controller, guarded by admission.

/// The organisation of a namespace.
pub const ORG_LABEL: &str = "plasmacloud.io/org-id";
/// The project of a namespace.
pub const PROJECT_LABEL: &str = "plasmacloud.io/project-id";
/// `project`, or `org-shared`: what a namespace is for.
pub const TENANT_TYPE: &str = "plasmacloud.io/tenant-type";
/// What the keys of labels and annotations start with that say whose a namespace is.
pub const OWN_KEYS: &str = "plasmacloud.io/";
/// The label that says who manages an object.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The controllers of projects, in that label and in managed fields.
pub const MANAGER: &str = "k8shost-projects";
