//! ValidatingAdmissionPolicyBinding: where a validating policy applies.
use crate::admissionregistration::webhook;
use crate::check::{At, Report};
use crate::fields::{Fill, Read};
use api_meta::{FieldErrors, names};
use api_resource::{Column, Names, Resource, ResourceScope, text};
use serde_json::Value;

pub struct ValidatingAdmissionPolicyBindings;

impl Resource for ValidatingAdmissionPolicyBindings {
    const NAMES: Names = Names::with(
        "admissionregistration.k8s.io",
        "v1",
        "ValidatingAdmissionPolicyBinding",
        "validatingadmissionpolicybindings",
        "validatingadmissionpolicybinding",
        &[],
        const { &[text("api-extensions")] },
    );
    const SCOPE: ResourceScope = ResourceScope::Cluster;
    const COLUMNS: &'static [Column] =
        &[Column::path("PolicyName", ".spec.policyName"), Column::with("ParamRef", |row| webhook::param_reference(&row.object["spec"]["paramRef"]))];
    const UNCONDITIONAL_UPDATE: bool = false;
    fn default(object: &mut Value) {
        if let Some(resources) = object.open("spec").child("matchResources") {
            webhook::default_match(resources);
        }
    }
    fn validate(new: &Value, _old: Option<&Value>) -> FieldErrors {
        const ACTIONS: &[&str] = &["Audit", "Deny", "Warn"];
        let mut errors = FieldErrors::new();
        let root = At::root(new);
        let spec = root.field("spec");
        errors.named(&spec.field("policyName"), names::dns1123_subdomain);
        webhook::validate_param_reference(&mut errors, &spec.field("paramRef"));
        webhook::validate_match(&mut errors, &spec.field("matchResources"));
        let actions = spec.field("validationActions");
        if actions.list().is_empty() {
            errors.required(&actions, "");
        }
        for (index, action) in actions.items().enumerate() {
            if !ACTIONS.contains(&action.text()) {
                errors.not_supported(&action, ACTIONS);
            }
            if actions.list()[..index].contains(&action) {
                errors.duplicate(&action);
            }
        }
        let has = |action: &str| actions.texts().any(|other| other == action);
        if has("Deny") && has("Warn") {
            errors.invalid(
                &actions,
                "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)",
            );
        }
        errors
    }
}
