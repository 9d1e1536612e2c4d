//! ValidatingAdmissionPolicy: CEL rules that may refuse objects.
use crate::admissionregistration::expressions::PolicyEnvironment;
use crate::admissionregistration::{type_checking, webhook};
use crate::check::{At, Report, names::c_identifier};
use crate::fields::{Fill, Read};
use api_meta::{FieldErrors, names};
use api_resource::{Column, Names, Resource, ResourceScope, STATUS, Subresource, WriteContext, text};
use serde_json::Value;

pub struct ValidatingAdmissionPolicies;

impl Resource for ValidatingAdmissionPolicies {
    const NAMES: Names = Names::with(
        "admissionregistration.k8s.io",
        "v1",
        "ValidatingAdmissionPolicy",
        "validatingadmissionpolicies",
        "validatingadmissionpolicy",
        &[],
        const { &[text("api-extensions")] },
    );
    const SCOPE: ResourceScope = ResourceScope::Cluster;
    const COLUMNS: &'static [Column] = &[
        Column::with("Validations", |row| row.object["spec"]["validations"].list().len().into()).integer(),
        Column::with("ParamKind", |row| webhook::param_kind(&row.object["spec"]["paramKind"])),
    ];
    const SUBRESOURCES: &'static [Subresource] = &[STATUS];
    const UNCONDITIONAL_UPDATE: bool = false;
    fn default(object: &mut Value) {
        let spec = object.open("spec");
        spec.absent("failurePolicy", "Fail");
        if let Some(constraints) = spec.child("matchConstraints") {
            webhook::default_match(constraints);
        }
    }
    fn validate(new: &Value, _old: Option<&Value>) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let root = At::root(new);
        let spec = root.field("spec");
        errors.one_of(&spec.field("failurePolicy"), &["Fail", "Ignore"]);
        webhook::validate_param_kind(&mut errors, &spec.field("paramKind"));
        let constraints = spec.field("matchConstraints");
        if constraints.is_null() {
            errors.required(&constraints, "");
        } else {
            webhook::validate_match(&mut errors, &constraints);
            if constraints["resourceRules"].list().is_empty() {
                errors.required(&constraints.field("resourceRules"), "");
            }
        }
        webhook::match_conditions(&mut errors, &spec.field("matchConditions"), spec["paramKind"].is_set());
        let environment = PolicyEnvironment::of(&mut errors, &spec);
        let variables = spec.field("variables");
        for (index, variable) in variables.items().enumerate() {
            errors.named(&variable.field("name"), c_identifier);
            if variables.list()[..index].iter().any(|other| other["name"] == variable["name"]) {
                errors.duplicate(&variable.field("name"));
            }
        }
        let (validations, annotations) = (spec.field("validations"), spec.field("auditAnnotations"));
        if validations.list().is_empty() && annotations.list().is_empty() {
            errors.required(&validations, "validations or auditAnnotations must contain at least one item");
            errors.required(&annotations, "validations or auditAnnotations must contain at least one item");
        }
        for validation in validations.items() {
            environment.validation(&mut errors, &validation.field("expression"));
            environment.message(&mut errors, &validation.field("messageExpression"));
            errors.one_of_if_set(&validation.field("reason"), &["Forbidden", "Invalid", "RequestEntityTooLarge", "Unauthorized"]);
            let message = validation.field("message");
            if message.is_set() && message.text().trim().is_empty() {
                errors.invalid(&message, "message must be non-empty if specified");
            }
            if message.text().contains('\n') {
                errors.invalid(&message, "message must not contain line breaks");
            }
        }
        for annotation in annotations.items() {
            errors.named(&annotation.field("key"), names::qualified_name);
            environment.annotation(&mut errors, &annotation.field("valueExpression"));
        }
        errors
    }
    fn prepare_create(object: &mut Value, _context: &WriteContext) {
        type_checking::note(object, 1);
    }
    fn prepare_update(new: &mut Value, old: &Value, _context: &WriteContext) {
        if new["spec"] != old["spec"] {
            let generation = old["metadata"]["generation"].as_i64().unwrap_or(0) + 1;
            type_checking::note(new, generation);
        }
    }
}
