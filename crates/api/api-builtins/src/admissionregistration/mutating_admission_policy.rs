//! MutatingAdmissionPolicy: CEL rules that may change objects.
use crate::admissionregistration::webhook;
use crate::fields::{Fill, Read};
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
}
