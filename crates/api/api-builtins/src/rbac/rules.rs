//! The rules of Roles and ClusterRoles: verbs on resources, or on paths of the server.
use crate::check::{At, Report};
use crate::fields::Read;
use api_meta::FieldErrors;
use serde_json::Value;

pub fn rules(errors: &mut FieldErrors, role: &Value, namespaced: bool) {
    let root = At::root(role);
    let rules = root.field("rules");
    for rule in rules.items() {
        let (verbs, groups, resources, paths) = (rule.field("verbs"), rule.field("apiGroups"), rule.field("resources"), rule.field("nonResourceURLs"));
        if verbs.list().is_empty() {
            errors.required(&verbs, "verbs must contain at least one value");
        }
        if !paths.list().is_empty() {
            if namespaced {
                errors.invalid(&paths, "namespaced rules cannot apply to non-resource URLs");
            }
            if !groups.list().is_empty() || !resources.list().is_empty() || !rule["resourceNames"].list().is_empty() {
                errors.invalid(&paths, "rules cannot apply to both regular resources and non-resource URLs");
            }
            continue;
        }
        if groups.list().is_empty() {
            errors.required(&groups, "resource rules must supply at least one api group");
        }
        if resources.list().is_empty() {
            errors.required(&resources, "resource rules must supply at least one resource");
        }
    }
}
