//! ValidatingAdmissionPolicy: CEL rules that may refuse objects.
use crate::admissionregistration::webhook;
use crate::fields::{Fill, Read};
use api_resource::{Column, Names, Resource, ResourceScope, STATUS, Subresource, text};
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
}
