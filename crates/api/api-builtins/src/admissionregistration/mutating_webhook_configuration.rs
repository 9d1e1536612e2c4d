//! MutatingWebhookConfiguration: webhooks that may change objects.
use api_resource::{Names, Resource, ResourceScope, text};

pub struct MutatingWebhookConfigurations;

impl Resource for MutatingWebhookConfigurations {
    const NAMES: Names = Names::with(
        "admissionregistration.k8s.io",
        "v1",
        "MutatingWebhookConfiguration",
        "mutatingwebhookconfigurations",
        "mutatingwebhookconfiguration",
        &[],
        const { &[text("api-extensions")] },
    );
    const SCOPE: ResourceScope = ResourceScope::Cluster;
    const UNCONDITIONAL_UPDATE: bool = false;
}
