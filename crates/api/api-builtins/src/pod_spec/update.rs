//! What may change in a pod that exists: images, deadlines, tolerations that are added, gates that are opened.
use crate::check::{At, Report};
use crate::fields::{Fill, Read};
use api_meta::{FieldErrors, FieldPath};
use serde_json::Value;

const CHANGEABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// A whole-pod update.
pub fn pod(errors: &mut FieldErrors, new: &At, old: &Value) {
    for list in ["containers", "initContainers"] {
        if new[list].list().len() != old[list].list().len() {
            return errors.forbidden(&new.field(list), "pod updates may not add or remove containers");
        }
    }
    if !deadline(errors, &new.field("activeDeadlineSeconds"), &old["activeDeadlineSeconds"]) {
        return;
    }
    added_tolerations(errors, &new.field("tolerations"), &old["tolerations"]);
    opened_gates(errors, &new.field("schedulingGates"), &old["schedulingGates"]);
    if new.value() == old {
        return;
    }
    let mut rest = new.value().clone();
    for list in ["containers", "initContainers"] {
        for (container, before) in rest.each(list).zip(old[list].list()) {
            take(container, before, "image");
        }
    }
    for field in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
        take(&mut rest, old, field);
    }
    let grace = |spec: &Value| spec["terminationGracePeriodSeconds"].int();
    if grace(old).is_some_and(|seconds| seconds < 0) && grace(&rest) == Some(1) {
        take(&mut rest, old, "terminationGracePeriodSeconds");
    }
    if !old["schedulingGates"].list().is_empty() {
        gated(errors, new, &mut rest, old);
    }
    let changes = differences(old, &rest);
    if !changes.is_empty() {
        errors.forbidden(new, format!("pod updates may not change fields other than {CHANGEABLE}\n{changes}"));
    }
}

/// An update through `/ephemeralcontainers`: they may be added, never changed or removed.
pub fn ephemeral_containers(errors: &mut FieldErrors, new: &At, old: &Value) {
    let list = new.field("ephemeralContainers");
    for before in old["ephemeralContainers"].list() {
        match list.list().iter().position(|container| container["name"] == before["name"]) {
            None => errors.forbidden(&list, format!("existing ephemeral containers {:?} may not be removed\n", before["name"].text())),
            Some(index) if list.list()[index] != *before => {
                errors.forbidden(
                    &list.index(index),
                    format!("existing ephemeral containers {:?} may not be changed\n{}", before["name"].text(), differences(before, &list.list()[index])),
                );
            }
            Some(_) => {}
        }
    }
}

/// An update through `/resize`: resources of containers, and nothing that changes the pod's class.
pub fn resize(errors: &mut FieldErrors, new: &At, old: &Value) {
    if super::qos::class(new) != super::qos::class(old) {
        errors.invalid_as(new, super::qos::class(new), format!("Pod QOS Class may not change as a result of resizing, was {:?}", super::qos::class(old)));
    }
    for list in ["containers", "initContainers"] {
        let containers = new.field(list);
        if containers.list().len() != old[list].list().len() {
            errors.forbidden(&containers, "containers may not be added or removed");
            continue;
        }
        for (container, before) in containers.items().zip(old[list].list()) {
            for kind in ["limits", "requests"] {
                let amounts = container.field("resources");
                let amounts = amounts.field(kind);
                for (name, amount) in amounts.entries() {
                    if !matches!(name, "cpu" | "memory") && before["resources"][kind].get(name) != Some(amount.value()) {
                        errors.forbidden(&amount, "only cpu and memory resources are mutable");
                    }
                }
                for (name, _) in before["resources"][kind].entries() {
                    if amounts.get(name).is_none() {
                        errors.forbidden(&amounts, format!("resource {kind} cannot be removed"));
                    }
                }
            }
        }
    }
}

fn deadline(errors: &mut FieldErrors, new: &At, old: &Value) -> bool {
    match (new.int(), old.int()) {
        (Some(seconds), _) if !(0..=i64::from(i32::MAX)).contains(&seconds) => {
            errors.invalid(new, "must be between 0 and 2147483647, inclusive");
            return false;
        }
        (Some(seconds), Some(before)) if seconds > before => {
            errors.invalid(new, "must be less than or equal to previous value");
            return false;
        }
        (None, Some(_)) => errors.invalid(new, "must not update from a positive integer to nil value"),
        _ => {}
    }
    true
}

fn added_tolerations(errors: &mut FieldErrors, new: &At, old: &Value) {
    let without_seconds = |toleration: &Value| {
        let mut toleration = toleration.clone();
        toleration.remove("tolerationSeconds");
        toleration
    };
    let kept = |before: &Value| new.list().iter().any(|toleration| without_seconds(toleration) == without_seconds(before));
    if !old.list().iter().all(kept) {
        errors.forbidden(new, "existing toleration can not be modified except its tolerationSeconds");
    }
}

fn opened_gates(errors: &mut FieldErrors, new: &At, old: &Value) {
    for gate in new.items() {
        if !old.list().iter().any(|before| before["name"] == gate["name"]) {
            errors.forbidden(&gate.field("name"), format!("only deletion is allowed, but found new scheduling gate '{}'", gate["name"].text()));
        }
    }
}

/// Where a gated pod may run can still be narrowed, never widened.
fn gated(errors: &mut FieldErrors, new: &At, rest: &mut Value, old: &Value) {
    let selector = new.field("nodeSelector");
    for (key, value) in old["nodeSelector"].entries() {
        if selector.get(key) != Some(value) {
            errors.invalid(&selector, "only additions to nodeSelector are allowed (no mutations or deletions)");
            break;
        }
    }
    take(rest, old, "nodeSelector");
    let required = |spec: &Value| spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"].clone();
    let (after, before) = (required(new), required(old));
    if before.is_set() && before != after {
        let narrowed = before["nodeSelectorTerms"].list().len() == after["nodeSelectorTerms"].list().len()
            && before["nodeSelectorTerms"]
                .list()
                .iter()
                .zip(after["nodeSelectorTerms"].list())
                .all(|(before, after)| ["matchExpressions", "matchFields"].iter().all(|part| after[*part].list().starts_with(before[*part].list())));
        if !narrowed {
            let terms = new.field("affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution");
            errors.invalid(&terms, "only additions are allowed (no mutations or deletions)");
        }
    }
    match old["affinity"].get("nodeAffinity") {
        Some(before) => rest.open("affinity").put("nodeAffinity", before.clone()),
        None => {
            if let Some(affinity) = rest.child("affinity") {
                affinity.remove("nodeAffinity");
            }
            if old["affinity"].is_null() && rest["affinity"].is_zero() {
                rest.remove("affinity");
            }
        }
    }
}

/// Makes `to[key]` what `from[key]` is, absence included.
fn take(to: &mut Value, from: &Value, key: &str) {
    match from.get(key) {
        Some(value) => to.put(key, value.clone()),
        None => drop(to.remove(key)),
    }
}

/// The fields that differ, a line for what was and a line for what is.
pub fn differences(old: &Value, new: &Value) -> String {
    fn walk(path: &FieldPath, old: &Value, new: &Value, lines: &mut Vec<String>) {
        match (old, new) {
            _ if old == new || (old.is_zero() && new.is_zero()) => {}
            (Value::Object(before), Value::Object(after)) => {
                let keys: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
                for key in keys {
                    walk(&path.child(key), &old[key.as_str()], &new[key.as_str()], lines);
                }
            }
            (Value::Array(before), Value::Array(after)) if before.len() == after.len() => {
                for (index, (before, after)) in before.iter().zip(after).enumerate() {
                    walk(&path.index(index), before, after, lines);
                }
            }
            _ => {
                if !old.is_null() {
                    lines.push(format!("- {path}: {old}"));
                }
                if !new.is_null() {
                    lines.push(format!("+ {path}: {new}"));
                }
            }
        }
    }
    let mut lines = Vec::new();
    walk(&FieldPath::root(), old, new, &mut lines);
    lines.join("\n")
}
