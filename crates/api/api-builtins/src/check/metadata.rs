//! Labels and annotations of templates and selectors; an object's own are checked generically.
use super::at::{At, Report};
use crate::fields::Read;
use api_meta::{FieldErrors, names};

const ANNOTATIONS_MAXIMUM: usize = 256 << 10;

/// A map of labels.
pub fn labels(errors: &mut FieldErrors, at: &At) {
    for (key, value) in at.entries() {
        label_key(errors, at, key);
        for reason in names::label_value(value.text()) {
            errors.invalid_as(at, value.text(), reason);
        }
    }
}

/// The key of a label, named at a place other than its own.
pub fn label_key(errors: &mut FieldErrors, at: &At, key: &str) {
    for reason in names::qualified_name(key) {
        errors.invalid_as(at, key, reason);
    }
}

/// A map of annotations.
pub fn annotations(errors: &mut FieldErrors, at: &At) {
    let mut size = 0;
    for (key, value) in at.entries() {
        for reason in names::qualified_name(&key.to_lowercase()) {
            errors.invalid_as(at, key, reason);
        }
        size += key.len() + value.text().len();
    }
    if size > ANNOTATIONS_MAXIMUM {
        errors.too_long(at, ANNOTATIONS_MAXIMUM);
    }
}
