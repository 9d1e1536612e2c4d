//! Affinity to nodes and to other pods.
use crate::check::metadata::label_key;
use crate::check::{At, Report, selectors};
use crate::fields::Read;
use api_meta::{FieldErrors, names};

pub fn affinity(errors: &mut FieldErrors, at: &At) {
    let node = at.field("nodeAffinity");
    let required = node.field("requiredDuringSchedulingIgnoredDuringExecution");
    if required.is_set() {
        selectors::node_selector(errors, &required);
    }
    let preferred = node.field("preferredDuringSchedulingIgnoredDuringExecution");
    for term in preferred.items() {
        weight(errors, &term.field("weight"));
        selectors::node_selector_term(errors, &term.field("preference"), false);
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let pods = at.field(kind);
        let required = pods.field("requiredDuringSchedulingIgnoredDuringExecution");
        for term in required.items() {
            pod_term(errors, &term);
        }
        let preferred = pods.field("preferredDuringSchedulingIgnoredDuringExecution");
        for term in preferred.items() {
            weight(errors, &term.field("weight"));
            pod_term(errors, &term.field("podAffinityTerm"));
        }
    }
}

fn weight(errors: &mut FieldErrors, at: &At) {
    if !(1..=100).contains(&at.int().unwrap_or_default()) {
        errors.invalid_as(at, at.int().unwrap_or_default(), "must be in the range 1-100");
    }
}

fn pod_term(errors: &mut FieldErrors, term: &At) {
    selectors::label_selector(errors, &term.field("labelSelector"));
    selectors::label_selector(errors, &term.field("namespaceSelector"));
    let namespaces = term.field("namespaces");
    for namespace in namespaces.texts() {
        for reason in names::dns1123_label(namespace) {
            errors.invalid_as(&term.field("namespace"), namespace, reason);
        }
    }
    label_keys(errors, term);
    let topology = term.field("topologyKey");
    if topology.text().is_empty() {
        errors.required(&topology, "can not be empty");
    }
    label_key(errors, &topology, topology.text());
}

/// `matchLabelKeys` and `mismatchLabelKeys`: they need a selector to add to, and can't contradict.
fn label_keys(errors: &mut FieldErrors, term: &At) {
    let (matching, mismatching) = (term.field("matchLabelKeys"), term.field("mismatchLabelKeys"));
    for keys in [&matching, &mismatching] {
        if !keys.list().is_empty() && term["labelSelector"].is_null() {
            errors.forbidden(keys, "must not be specified when labelSelector is not set");
        }
        for key in keys.items() {
            label_key(errors, &key, key.text());
        }
    }
    for key in matching.items() {
        if mismatching.texts().any(|other| other == key.text()) {
            errors.invalid(&key, "exists in both matchLabelKeys and mismatchLabelKeys");
        }
    }
}
