//! What admission webhooks and policies have in common: which requests they are about.
use crate::cells::UNSET;
use crate::fields::{Fill, Read};
use serde_json::{Value, json};

/// Defaults one webhook.
pub fn default(webhook: &mut Value) {
    webhook.absent("failurePolicy", "Fail");
    webhook.absent("timeoutSeconds", 10);
    webhook.absent("matchPolicy", "Equivalent");
    webhook.absent("namespaceSelector", json!({}));
    webhook.absent("objectSelector", json!({}));
    webhook.each("rules").for_each(|rule| rule.absent("scope", "*"));
    if let Some(service) = webhook.open("clientConfig").child("service") {
        service.absent("port", 443);
    }
}

/// Defaults a policy's MatchResources.
pub fn default_match(resources: &mut Value) {
    resources.absent("matchPolicy", "Equivalent");
    resources.absent("namespaceSelector", json!({}));
    resources.absent("objectSelector", json!({}));
    for list in ["resourceRules", "excludeResourceRules"] {
        resources.each(list).for_each(|rule| rule.absent("scope", "*"));
    }
}

/// The cell of a policy's `paramKind`.
pub fn param_kind(kind: &Value) -> Value {
    if kind.is_null() { UNSET.into() } else { format!("{}/{}", kind["apiVersion"].text(), kind["kind"].text()).into() }
}

/// The cell of a binding's `paramRef`; one without a name stands for all that its selector matches.
pub fn param_reference(reference: &Value) -> Value {
    if reference.is_null() {
        return UNSET.into();
    }
    let name = if reference["name"].text().is_empty() { "*" } else { reference["name"].text() };
    match reference["namespace"].text() {
        "" => name.into(),
        namespace => format!("{namespace}/{name}").into(),
    }
}
