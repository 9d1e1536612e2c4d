//! Role: what may be done in a namespace.
use crate::cells::CREATED_AT;
use crate::rbac::rules;
use api_meta::FieldErrors;
use api_resource::{Column, NameRule, Names, Resource};
use serde_json::Value;

pub struct Roles;

impl Resource for Roles {
    const NAMES: Names = Names::new("rbac.authorization.k8s.io", "v1", "Role", "roles", "role");
    const COLUMNS: &'static [Column] = &[Column::NAME, CREATED_AT];
    const OWN_COLUMNS: bool = true;
    const NAME_RULE: NameRule = NameRule::PathSegment;
    const GENERATION: bool = false;
    const CREATE_ON_UPDATE: bool = true;
    fn validate(new: &Value, _old: Option<&Value>) -> FieldErrors {
        let mut errors = FieldErrors::new();
        rules::rules(&mut errors, new, true);
        errors
    }
}
