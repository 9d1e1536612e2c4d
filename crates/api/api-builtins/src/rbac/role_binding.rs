//! RoleBinding: who has a role in a namespace.
use crate::rbac::binding;
use api_meta::FieldErrors;
use api_resource::{Column, NameRule, Names, Resource};
use serde_json::Value;

pub struct RoleBindings;

impl Resource for RoleBindings {
    const NAMES: Names = Names::new("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings", "rolebinding");
    const COLUMNS: &'static [Column] = binding::COLUMNS;
    const NAME_RULE: NameRule = NameRule::PathSegment;
    const GENERATION: bool = false;
    const CREATE_ON_UPDATE: bool = true;
    fn default(object: &mut Value) {
        binding::default(object);
    }
    fn validate(new: &Value, old: Option<&Value>) -> FieldErrors {
        binding::validate(new, old, true)
    }
}
