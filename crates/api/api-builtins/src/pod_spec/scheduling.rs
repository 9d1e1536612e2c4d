//! What bears on where and when a pod runs: tolerations, gates, topology spread.
use crate::check::metadata::label_key;
use crate::check::{At, Report, selectors};
use crate::fields::Read;
use api_meta::{FieldErrors, names};
use std::collections::BTreeSet;

const EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// The effect of a taint.
pub fn taint_effect(errors: &mut FieldErrors, at: &At) {
    errors.one_of(at, EFFECTS);
}

pub fn tolerations(errors: &mut FieldErrors, at: &At) {
    for toleration in at.items() {
        let (key, operator, effect) = (toleration.field("key"), toleration.field("operator"), toleration.field("effect"));
        let value = toleration["value"].text();
        if !key.text().is_empty() {
            label_key(errors, &key, key.text());
        } else if operator.text() != "Exists" {
            errors.invalid_as(&operator, operator.text(), "operator must be Exists when `key` is empty, which means \"match all values and all keys\"");
        }
        if toleration["tolerationSeconds"].is_set() && effect.text() != "NoExecute" {
            errors.invalid_as(&effect, effect.text(), "effect must be 'NoExecute' when `tolerationSeconds` is set");
        }
        match operator.text() {
            "" | "Equal" => {
                let reasons = names::label_value(value);
                if !reasons.is_empty() {
                    errors.invalid_as(&operator, value, reasons.join(";"));
                }
            }
            "Exists" if !value.is_empty() => errors.invalid_as(&operator, value, "value must be empty when `operator` is 'Exists'"),
            "Exists" => {}
            _ => errors.not_supported(&operator, &["Equal", "Exists"]),
        }
        if !effect.text().is_empty() {
            taint_effect(errors, &effect);
        }
    }
}

pub fn readiness_gates(errors: &mut FieldErrors, at: &At) {
    for gate in at.items() {
        errors.reasons(&gate.field("conditionType"), names::qualified_name(gate["conditionType"].text()));
    }
}

pub fn scheduling_gates(errors: &mut FieldErrors, at: &At) {
    let mut seen = BTreeSet::new();
    for gate in at.items() {
        let name = gate["name"].text();
        for reason in names::qualified_name(name) {
            errors.invalid_as(&gate, name, reason);
        }
        if !seen.insert(name.to_owned()) {
            errors.duplicate_as(&gate, name);
        }
    }
}

pub fn topology_spread(errors: &mut FieldErrors, at: &At) {
    const WHEN: &[&str] = &["DoNotSchedule", "ScheduleAnyway"];
    const POLICIES: &[&str] = &["Honor", "Ignore"];
    let mut seen = BTreeSet::new();
    for constraint in at.items() {
        let (skew, domains, when, topology) =
            (constraint.field("maxSkew"), constraint.field("minDomains"), constraint.field("whenUnsatisfiable"), constraint.field("topologyKey"));
        if skew.int().unwrap_or_default() <= 0 {
            errors.invalid_as(&skew, skew.int().unwrap_or_default(), "must be greater than zero");
        }
        if topology.text().is_empty() {
            errors.required(&topology, "can not be empty");
        } else {
            label_key(errors, &topology, topology.text());
        }
        if !WHEN.contains(&when.text()) {
            errors.not_supported(&when, WHEN);
        }
        let pair = format!("{{{}, {}}}", topology.text(), when.text());
        if !seen.insert(pair.clone()) {
            errors.push(api_meta::FieldError::duplicate(&constraint.path().child("{topologyKey, whenUnsatisfiable}"), pair));
        }
        if let Some(count) = domains.int() {
            if count <= 0 {
                errors.invalid(&domains, "must be greater than zero");
            }
            if when.text() != "DoNotSchedule" {
                errors.invalid(&domains, format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {}", when.text()));
            }
        }
        for policy in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            let policy = constraint.field(policy);
            if policy.is_set() && !POLICIES.contains(&policy.text()) {
                errors.not_supported(&policy, POLICIES);
            }
        }
        let keys = constraint.field("matchLabelKeys");
        if !keys.list().is_empty() && constraint["labelSelector"].is_null() {
            errors.forbidden(&keys, "must not be specified when labelSelector is not set");
        }
        for key in keys.items() {
            label_key(errors, &key, key.text());
        }
        selectors::label_selector(errors, &constraint.field("labelSelector"));
    }
}
