//! MutatingAdmissionPolicyBinding: where a mutating policy applies.
use api_resource::{Names, Resource, ResourceScope, text};

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
    const UNCONDITIONAL_UPDATE: bool = false;
}
