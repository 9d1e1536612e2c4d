//! MutatingAdmissionPolicyBinding: where a mutating policy applies.
use crate::admissionregistration::webhook;
use crate::check::{At, Report};
use crate::fields::Fill;
use api_meta::{FieldErrors, names};
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
    fn validate(new: &Value, _old: Option<&Value>) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let root = At::root(new);
        let spec = root.field("spec");
        errors.named(&spec.field("policyName"), names::dns1123_subdomain);
        webhook::validate_param_reference(&mut errors, &spec.field("paramRef"));
        webhook::validate_match(&mut errors, &spec.field("matchResources"));
        errors
    }
}
