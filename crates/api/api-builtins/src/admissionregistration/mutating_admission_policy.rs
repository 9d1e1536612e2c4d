//! MutatingAdmissionPolicy: CEL rules that may change objects.
use crate::admissionregistration::expressions::PolicyEnvironment;
use crate::admissionregistration::webhook;
use crate::check::{At, Report};
use crate::fields::{Fill, Read};
use api_meta::FieldErrors;
use api_resource::{Column, Names, Resource, ResourceScope, text};
use serde_json::Value;

pub struct MutatingAdmissionPolicies;

impl Resource for MutatingAdmissionPolicies {
    const NAMES: Names = Names::with(
        "admissionregistration.k8s.io",
        "v1",
        "MutatingAdmissionPolicy",
        "mutatingadmissionpolicies",
        "mutatingadmissionpolicy",
        &[],
        const { &[text("api-extensions")] },
    );
    const SCOPE: ResourceScope = ResourceScope::Cluster;
    const COLUMNS: &'static [Column] = &[
        Column::with("Mutations", |row| row.object["spec"]["mutations"].list().len().into()).integer(),
        Column::with("ParamKind", |row| webhook::param_kind(&row.object["spec"]["paramKind"])),
    ];
    const UNCONDITIONAL_UPDATE: bool = false;
    fn default(object: &mut Value) {
        let spec = object.open("spec");
        spec.absent("failurePolicy", "Fail");
        spec.zero("reinvocationPolicy", "Never");
        if let Some(constraints) = spec.child("matchConstraints") {
            webhook::default_match(constraints);
        }
    }
    fn validate(new: &Value, _old: Option<&Value>) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let root = At::root(new);
        let spec = root.field("spec");
        errors.one_of(&spec.field("failurePolicy"), &["Fail", "Ignore"]);
        errors.one_of(&spec.field("reinvocationPolicy"), &["IfNeeded", "Never"]);
        webhook::validate_param_kind(&mut errors, &spec.field("paramKind"));
        let (constraints, mutations) = (spec.field("matchConstraints"), spec.field("mutations"));
        if constraints.is_null() {
            errors.required(&constraints, "");
        } else {
            webhook::validate_match(&mut errors, &constraints);
        }
        webhook::match_conditions(&mut errors, &spec.field("matchConditions"), spec["paramKind"].is_set());
        let environment = PolicyEnvironment::of(&mut errors, &spec);
        if mutations.list().is_empty() {
            errors.required(&mutations, "mutations must contain at least one item");
        }
        for mutation in mutations.items() {
            let kind = mutation.field("patchType");
            errors.one_of(&kind, &["ApplyConfiguration", "JSONPatch"]);
            let field = if kind.text() == "JSONPatch" { "jsonPatch" } else { "applyConfiguration" };
            environment.mutation(&mut errors, &mutation.field(field).field("expression"));
        }
        errors
    }
}
