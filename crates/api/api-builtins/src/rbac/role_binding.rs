//! RoleBinding: who has a role in a namespace.
use api_resource::{NameRule, Names, Resource};

pub struct RoleBindings;

impl Resource for RoleBindings {
    const NAMES: Names = Names::new("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings", "rolebinding");
    const NAME_RULE: NameRule = NameRule::PathSegment;
    const GENERATION: bool = false;
    const CREATE_ON_UPDATE: bool = true;
}
