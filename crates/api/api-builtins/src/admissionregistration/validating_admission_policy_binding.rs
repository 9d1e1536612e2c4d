//! ValidatingAdmissionPolicyBinding: where a validating policy applies.
use api_resource::{Names, Resource, ResourceScope, text};

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
    const UNCONDITIONAL_UPDATE: bool = false;
}
