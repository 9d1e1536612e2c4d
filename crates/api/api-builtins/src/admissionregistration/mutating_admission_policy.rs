//! MutatingAdmissionPolicy: CEL rules that may change objects.
use api_resource::{Names, Resource, ResourceScope, text};

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
    const UNCONDITIONAL_UPDATE: bool = false;
}
