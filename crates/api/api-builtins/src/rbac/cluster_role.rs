//! ClusterRole: what may be done in a cluster.
use crate::cells::CREATED_AT;
use crate::check::{At, Report, selectors};
use crate::fields::Read;
use crate::rbac::rules;
use api_meta::FieldErrors;
use api_resource::{Column, NameRule, Names, Resource, ResourceScope};
use serde_json::Value;

pub struct ClusterRoles;

impl Resource for ClusterRoles {
    const NAMES: Names = Names::new("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles", "clusterrole");
    const SCOPE: ResourceScope = ResourceScope::Cluster;
    const COLUMNS: &'static [Column] = &[Column::NAME, CREATED_AT];
    const OWN_COLUMNS: bool = true;
    const NAME_RULE: NameRule = NameRule::PathSegment;
    const GENERATION: bool = false;
    const CREATE_ON_UPDATE: bool = true;
    fn validate(new: &Value, _old: Option<&Value>) -> FieldErrors {
        let mut errors = FieldErrors::new();
        rules::rules(&mut errors, new, false);
        let root = At::root(new);
        let all = root.field("aggregationRule.clusterRoleSelectors");
        if new["aggregationRule"].is_set() && all.list().is_empty() {
            errors.required(&all, "at least one clusterRoleSelector required if aggregationRule is non-nil");
        }
        for selector in all.items() {
            selectors::label_selector(&mut errors, &selector);
        }
        errors
    }
}
