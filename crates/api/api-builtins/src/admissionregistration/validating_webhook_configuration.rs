//! ValidatingWebhookConfiguration: webhooks that may refuse objects.
use api_resource::{Names, Resource, ResourceScope, text};

pub struct ValidatingWebhookConfigurations;

impl Resource for ValidatingWebhookConfigurations {
    const NAMES: Names = Names::with(
        "admissionregistration.k8s.io",
        "v1",
        "ValidatingWebhookConfiguration",
        "validatingwebhookconfigurations",
        "validatingwebhookconfiguration",
        &[],
        const { &[text("api-extensions")] },
    );
    const SCOPE: ResourceScope = ResourceScope::Cluster;
    const UNCONDITIONAL_UPDATE: bool = false;
}
