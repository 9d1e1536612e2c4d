//! Pod templates of workloads: valid in themselves, and matched by their owner's selector.
use super::validate;
use crate::check::{At, Report, metadata, selectors};
use crate::fields::Read;
use api_meta::{FieldErrors, LabelSelector};

/// A PodTemplateSpec.
pub fn template(errors: &mut FieldErrors, at: &At) {
    metadata::labels(errors, &at.field("metadata.labels"));
    metadata::annotations(errors, &at.field("metadata.annotations"));
    validate::pod_spec(errors, &at.field("spec"), None);
    let ephemeral = at.field("spec.ephemeralContainers");
    if !ephemeral.list().is_empty() {
        errors.forbidden(&ephemeral, "ephemeral containers not allowed in pod template");
    }
}

/// The template of a workload whose pods run for ever.
pub fn lasting(errors: &mut FieldErrors, at: &At, selector: Option<&LabelSelector>, kind: &str) {
    matched(errors, at, selector);
    template(errors, at);
    endless(errors, at, kind);
}

/// Pods that are always started again, without a deadline.
pub fn endless(errors: &mut FieldErrors, at: &At, kind: &str) {
    let policy = at.field("spec.restartPolicy");
    if policy.text() != "Always" {
        errors.not_supported(&policy, &["Always"]);
    }
    let deadline = at.field("spec.activeDeadlineSeconds");
    if deadline.is_set() {
        errors.forbidden(&deadline, format!("activeDeadlineSeconds in {kind} is not Supported"));
    }
}

/// The selector has to match the pods made from the template.
pub fn matched(errors: &mut FieldErrors, at: &At, selector: Option<&LabelSelector>) {
    let labels = at.field("metadata.labels");
    if selector.is_some_and(|selector| !selector.is_everything() && !selector.matches(&selectors::LabelsOf(labels.value()))) {
        let shown = if labels.is_null() { serde_json::json!({}) } else { labels.value().clone() };
        errors.invalid_as(&labels, shown, "`selector` does not match template `labels`");
    }
}

/// The selector of a workload: there, well-formed and not empty. Gives what it means.
pub fn workload_selector(errors: &mut FieldErrors, spec: &At, kind: &str) -> Option<LabelSelector> {
    let selector = spec.field("selector");
    if selector.is_null() {
        errors.required(&selector, "");
        return None;
    }
    selectors::label_selector(errors, &selector);
    let parsed = selectors::parse(selector.value());
    if parsed.as_ref().is_some_and(LabelSelector::is_everything) {
        errors.invalid(&selector, format!("empty selector is invalid for {kind}"));
    }
    parsed
}
