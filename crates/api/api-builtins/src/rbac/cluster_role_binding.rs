//! ClusterRoleBinding: who has a role in all of a cluster.
use crate::rbac::binding;
use api_meta::FieldErrors;
use api_resource::{Column, NameRule, Names, Resource, ResourceScope};
use serde_json::Value;

pub struct ClusterRoleBindings;

impl Resource for ClusterRoleBindings {
    const NAMES: Names = Names::new("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding", "clusterrolebindings", "clusterrolebinding");
    const SCOPE: ResourceScope = ResourceScope::Cluster;
    const COLUMNS: &'static [Column] = binding::COLUMNS;
    const NAME_RULE: NameRule = NameRule::PathSegment;
    const GENERATION: bool = false;
    const CREATE_ON_UPDATE: bool = true;
    fn default(object: &mut Value) {
        binding::default(object);
    }
    fn validate(new: &Value, old: Option<&Value>) -> FieldErrors {
        binding::validate(new, old, false)
    }
}
