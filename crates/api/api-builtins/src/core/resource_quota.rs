//! ResourceQuota: limits what a namespace may use in sum.
use crate::check::{At, Report, resources};
use crate::fields::{Fill, Read};
use crate::quantities;
use api_meta::{FieldErrors, names};
use api_resource::{Column, Names, Resource, Row, STATUS, Subresource, WriteContext, text};
use serde_json::{Value, json};

pub struct ResourceQuotas;

impl Resource for ResourceQuotas {
    const NAMES: Names = Names::with("", "v1", "ResourceQuota", "resourcequotas", "resourcequota", const { &[text("quota")] }, &[]);
    const RETURNS_DELETED: bool = true;
    const COLUMNS: &'static [Column] = &[Column::with("Request", |row| usage(row, false)), Column::with("Limit", |row| usage(row, true))];
    const SUBRESOURCES: &'static [Subresource] = &[STATUS];
    const GENERATION: bool = false;
    fn default(object: &mut Value) {
        quantities::canonical_map(object.open("spec"), "hard");
        let status = object.open("status");
        quantities::canonical_map(status, "hard");
        quantities::canonical_map(status, "used");
    }
    fn validate(new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let root = At::root(new);
        for list in ["spec.hard", "status.hard", "status.used"] {
            amounts(&mut errors, &root.field(list));
        }
        scopes(&mut errors, &root.field("spec"));
        if let Some(old) = old {
            let sorted = |spec: &Value| spec["scopes"].texts().map(str::to_owned).collect::<std::collections::BTreeSet<_>>();
            if sorted(&new["spec"]) != sorted(&old["spec"]) {
                errors.invalid(&root.field("spec.scopes"), "field is immutable");
            }
        }
        errors
    }
    fn validate_part(_subresource: &str, new: &Value, _old: &Value) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let root = At::root(new);
        for list in ["status.hard", "status.used"] {
            amounts(&mut errors, &root.field(list));
        }
        errors
    }
    fn prepare_create(object: &mut Value, _context: &WriteContext) {
        object.put("status", json!({}));
    }
}

/// `name: used/hard` of the limits, or of everything else.
fn usage(row: &Row, limits: bool) -> Value {
    let (hard, used) = (&row.object["status"]["hard"], &row.object["status"]["used"]);
    let amount = |value: &Value| if value.text().is_empty() { "0".to_owned() } else { value.text().to_owned() };
    hard.entries()
        .filter(|(name, _)| name.starts_with("limits") == limits)
        .map(|(name, hard)| format!("{name}: {}/{}", amount(&used[name]), amount(hard)))
        .collect::<Vec<_>>()
        .join(", ")
        .into()
}

fn amounts(errors: &mut FieldErrors, list: &At) {
    for (name, amount) in list.entries() {
        for reason in names::qualified_name(name) {
            errors.invalid_as(&amount, name, reason);
        }
        if !name.contains('/') && !resources::is_standard_for_quotas(name) {
            errors.invalid_as(&amount, name, "must be a standard resource type or fully qualified");
            errors.invalid_as(&amount, name, "must be a standard resource for quota");
        }
        resources::amount_of(errors, &amount, name);
    }
}

const SCOPES: &[&str] =
    &["Terminating", "NotTerminating", "BestEffort", "NotBestEffort", "PriorityClass", "CrossNamespacePodAffinity", "VolumeAttributesClass"];

fn scopes(errors: &mut FieldErrors, spec: &At) {
    let (scopes, selector) = (spec.field("scopes"), spec.field("scopeSelector.matchExpressions"));
    for scope in scopes.texts() {
        if !SCOPES.contains(&scope) {
            errors.invalid(&scopes, "unsupported scope");
        }
        for (name, _) in spec["hard"].entries() {
            if !applies(scope, name) {
                errors.invalid(&scopes, "unsupported scope applied to resource");
            }
        }
    }
    for requirement in selector.list() {
        let (scope, operator, values) = (requirement["scopeName"].text(), requirement["operator"].text(), requirement["values"].list());
        if !SCOPES.contains(&scope) {
            errors.invalid_as(&selector.field("scopeName"), scope, "unsupported scope");
        }
        for (name, _) in spec["hard"].entries() {
            if !applies(scope, name) {
                errors.invalid_as(&selector, spec["scopeSelector"].clone(), "unsupported scope applied to resource");
            }
        }
        if !matches!(scope, "PriorityClass" | "VolumeAttributesClass") && operator != "Exists" {
            errors.invalid_as(
                &selector.field("operator"),
                operator,
                "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity",
            );
        }
        match operator {
            "In" | "NotIn" if values.is_empty() => {
                errors.required(&selector.field("values"), "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector");
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                errors.invalid_as(
                    &selector.field("values"),
                    values.to_vec(),
                    "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector",
                );
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => errors.invalid_as(&selector.field("operator"), other, "not a valid selector operator"),
        }
    }
    let has = |scope: &str| scopes.texts().any(|other| other == scope) || selector.list().iter().any(|other| other["scopeName"] == scope);
    for (one, other) in [("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating")] {
        if has(one) && has(other) {
            errors.invalid(&scopes, "conflicting scopes");
        }
    }
}

/// Whether a scope can narrow down a quota on this resource.
fn applies(scope: &str, resource: &str) -> bool {
    let computed = matches!(
        resource,
        "pods"
            | "cpu"
            | "memory"
            | "requests.cpu"
            | "requests.memory"
            | "limits.cpu"
            | "limits.memory"
            | "ephemeral-storage"
            | "requests.ephemeral-storage"
            | "limits.ephemeral-storage"
    );
    let standard = resources::is_standard_for_quotas(resource);
    match scope {
        _ if !standard => true,
        "BestEffort" => resource == "pods",
        "Terminating" | "NotTerminating" | "NotBestEffort" | "PriorityClass" | "CrossNamespacePodAffinity" => computed,
        _ => true,
    }
}
