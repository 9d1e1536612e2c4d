//! MutatingAdmissionPolicyBinding: where a mutating policy applies.
use crate::admissionregistration::webhook;
use crate::fields::Fill;
use api_resource::{Column, Names, Resource, ResourceScope, text};
use serde_json::Value;

pub struct MutatingAdmissionPolicyBindings;

impl Resource for MutatingAdmissionPolicyBindings {
    const NAMES: Names = Names::with(
        "admissionregistration.k8s.io",
        "v1",
        "MutatingAdmissionPolicyBinding",
        "mutatingadmissionpolicybindings",
        "mutatingadmissionpolicybinding",
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
}
