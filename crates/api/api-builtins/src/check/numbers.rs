//! Numbers and int-or-percent values.
use super::at::{At, Report};
use crate::fields::Read;
use api_meta::FieldErrors;
use serde_json::Value;

pub const NEGATIVE: &str = "must be greater than or equal to 0";

/// A number of at least 0, absent ones included.
pub fn non_negative(errors: &mut FieldErrors, at: &At) {
    if at.int().is_some_and(|number| number < 0) {
        errors.invalid(at, NEGATIVE);
    }
}

/// Several of them, by the names of their fields.
pub fn all_non_negative(errors: &mut FieldErrors, at: &At, fields: &[&str]) {
    for field in fields {
        non_negative(errors, &at.field(field));
    }
}

/// A number between two others, both included; absent ones pass.
pub fn in_range(errors: &mut FieldErrors, at: &At, least: i64, most: i64) {
    if at.int().is_some_and(|number| !(least..=most).contains(&number)) {
        errors.invalid(at, format!("must be between {least} and {most}, inclusive"));
    }
}

/// A number that is not negative, or a percentage.
pub fn int_or_percent(errors: &mut FieldErrors, at: &At) {
    match at.value() {
        Value::String(text) if percent(text).is_none() => errors.invalid(
            at,
            "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
        ),
        Value::Number(_) => non_negative(errors, at),
        _ => {}
    }
}

/// A percentage of at most 100.
pub fn at_most_all(errors: &mut FieldErrors, at: &At) {
    if at.as_str().and_then(percent).is_some_and(|percent| percent > 100) {
        errors.invalid(at, "must not be greater than 100%");
    }
}

/// Whether an int-or-percent is none at all.
pub fn is_nothing(value: &Value) -> bool {
    match value {
        Value::String(text) => percent(text) == Some(0),
        other => other.int().unwrap_or_default() == 0,
    }
}

fn percent(text: &str) -> Option<u64> {
    let digits = text.strip_suffix('%')?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) { None } else { Some(digits.parse().unwrap_or(u64::MAX)) }
}
