//! Counts in the statuses of workloads: none is negative, no part is more than the whole.
use crate::check::{At, Report, numbers};
use crate::fields::Read;
use api_meta::FieldErrors;
use serde_json::Value;

const MORE_THAN_REPLICAS: &str = "cannot be greater than status.replicas";

pub fn replica_set(object: &Value) -> FieldErrors {
    let mut errors = counts(object, &["replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas", "observedGeneration"]);
    parts(&mut errors, object, &["fullyLabeledReplicas", "readyReplicas", "availableReplicas"]);
    errors
}

pub fn stateful_set(object: &Value) -> FieldErrors {
    let mut errors =
        counts(object, &["replicas", "readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas", "observedGeneration", "collisionCount"]);
    parts(&mut errors, object, &["readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"]);
    errors
}

pub fn deployment(object: &Value, old: &Value) -> FieldErrors {
    let mut errors =
        counts(object, &["observedGeneration", "replicas", "updatedReplicas", "readyReplicas", "availableReplicas", "unavailableReplicas", "collisionCount"]);
    parts(&mut errors, object, &["updatedReplicas", "readyReplicas", "availableReplicas"]);
    let root = At::root(object);
    let collisions = root.field("status.collisionCount");
    if let Some(before) = old["status"]["collisionCount"].int()
        && collisions.int().is_none_or(|count| count < before)
    {
        errors.invalid(&collisions, "cannot be decremented");
    }
    errors
}

fn counts(object: &Value, fields: &[&str]) -> FieldErrors {
    let mut errors = FieldErrors::new();
    numbers::all_non_negative(&mut errors, &At::root(object).field("status"), fields);
    errors
}

fn parts(errors: &mut FieldErrors, object: &Value, fields: &[&str]) {
    let root = At::root(object);
    let status = root.field("status");
    let whole = status["replicas"].int().unwrap_or_default();
    for field in fields {
        let part = status.field(field);
        if part.int().unwrap_or_default() > whole {
            errors.invalid(&part, MORE_THAN_REPLICAS);
        }
    }
    let available = status.field("availableReplicas");
    if available.int().unwrap_or_default() > status["readyReplicas"].int().unwrap_or_default() {
        errors.invalid(&available, "cannot be greater than readyReplicas");
    }
}
