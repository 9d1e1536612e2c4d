//! The way from client-side to server-side apply: kubectl's last-applied annotation.
use super::compare::compare;
use super::field_set::field_set;
use super::fields::{Fields, subtract};
use super::update::take;
use api_schema::Schema;
use serde_json::{Map, Value};

const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// The manager kubectl applies as; others do not take over from client-side apply.
pub(crate) const KUBECTL: &str = "kubectl";
/// Upstream's limit on all annotations together.
const MOST_BYTES: usize = 256 * 1024;

/// What client-side apply set and still holds as it set it: kubectl may take it over without a conflict.
pub(crate) fn still_applied(live: &Value, schema: &Schema) -> Fields {
    let text = live.get("metadata").and_then(|m| m.get("annotations")?.get(ANNOTATION)?.as_str());
    let Some(last) = text.and_then(|t| serde_json::from_str::<Value>(t).ok()) else { return Map::new() };
    let mut set = field_set(&last, schema);
    let comparison = compare(Some(&last), live, schema);
    subtract(&mut set, &comparison.changed, false);
    subtract(&mut set, &comparison.removed, false);
    set
}

/// Keeps the annotation true, if the object has it, so that client-side apply could be used again.
pub(crate) fn renew(object: &mut Value, applied: &Value) {
    let Some(annotations) = object.get_mut("metadata").and_then(|m| m.get_mut("annotations")?.as_object_mut()) else { return };
    if !annotations.contains_key(ANNOTATION) {
        return;
    }
    let mut applied = applied.clone();
    take(&mut applied);
    if let Some(applied) = applied.get_mut("metadata").and_then(|m| m.get_mut("annotations")?.as_object_mut()) {
        applied.remove(ANNOTATION);
    }
    let text = format!("{applied}\n");
    let others: usize = annotations.iter().filter(|(k, _)| *k != ANNOTATION).map(|(k, v)| k.len() + v.as_str().map_or(0, str::len)).sum();
    if others + ANNOTATION.len() + text.len() > MOST_BYTES {
        annotations.remove(ANNOTATION);
    } else {
        annotations.insert(ANNOTATION.into(), text.into());
    }
}
