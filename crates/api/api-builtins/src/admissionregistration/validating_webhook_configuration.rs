//! ValidatingWebhookConfiguration: webhooks that may refuse objects.
use crate::admissionregistration::webhook;
use crate::fields::{Fill, Read};
use api_meta::FieldErrors;
use api_resource::{Column, Names, Resource, ResourceScope, text};
use serde_json::Value;

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
    const COLUMNS: &'static [Column] = &[Column::with("Webhooks", |row| row.object["webhooks"].list().len().into()).integer()];
    const UNCONDITIONAL_UPDATE: bool = false;
    fn default(object: &mut Value) {
        object.each("webhooks").for_each(webhook::default);
    }
    fn validate(new: &Value, _old: Option<&Value>) -> FieldErrors {
        webhook::validate(new)
    }
}
