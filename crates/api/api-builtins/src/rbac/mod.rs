//! rbac.authorization.k8s.io/v1: its kinds, a file each.
mod binding;
mod cluster_role;
mod cluster_role_binding;
mod role;
mod role_binding;
mod rules;

pub use cluster_role::ClusterRoles;
pub use cluster_role_binding::ClusterRoleBindings;
pub use role::Roles;
pub use role_binding::RoleBindings;
