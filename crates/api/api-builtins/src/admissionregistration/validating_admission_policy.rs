//! ValidatingAdmissionPolicy: CEL rules that may refuse objects.
use api_resource::{Names, Resource, ResourceScope, STATUS, Subresource, text};

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
    const SUBRESOURCES: &'static [Subresource] = &[STATUS];
    const UNCONDITIONAL_UPDATE: bool = false;
}
