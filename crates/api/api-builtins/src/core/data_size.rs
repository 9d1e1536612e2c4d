//! How much a ConfigMap or Secret may hold, and that an immutable one stays as it is.
use crate::check::{At, Report};
use crate::fields::Read;
use api_meta::FieldErrors;
use serde_json::Value;

/// Bytes of all values together.
pub const MAXIMUM: usize = 1 << 20;

/// The bytes that base64 text stands for.
pub fn decoded(encoded: &str) -> usize {
    encoded.len() / 4 * 3 - encoded.bytes().rev().take_while(|byte| *byte == b'=').count().min(encoded.len() / 4 * 3)
}

/// Once `immutable` is set, neither it nor the data change.
pub fn frozen(errors: &mut FieldErrors, root: &At, old: &Value, parts: &[&str]) {
    const MESSAGE: &str = "field is immutable when `immutable` is set";
    if !old["immutable"].flag() {
        return;
    }
    if !root["immutable"].flag() {
        errors.forbidden(&root.field("immutable"), MESSAGE);
    }
    for part in parts {
        if root[*part] != old[*part] && !(root[*part].is_zero() && old[*part].is_zero()) {
            errors.forbidden(&root.field(part), MESSAGE);
        }
    }
}
