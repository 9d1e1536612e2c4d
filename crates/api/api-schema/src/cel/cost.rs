//! What a call costs when it is made, in cel-go's units.
//!
//! Source: cel-go's `interpreter/runtimecost.go` and apiserver's `pkg/cel/library/cost.go`.
use super::value::Value;

pub(super) const TRAVERSAL: f64 = 0.1;
pub(super) const REGEX: f64 = 0.25;
/// Two authorization checks are all an expression can afford.
const AUTHORIZATION: u64 = 350_000;

pub(super) const LIST: u64 = 10;
pub(super) const MAP: u64 = 30;
pub(super) const STRUCT: u64 = 40;

fn size(value: Option<&Value<'_>>) -> u64 {
    value.and_then(Value::size).unwrap_or(1) as u64
}

pub(super) fn scaled(size: u64, factor: f64) -> u64 {
    (size as f64 * factor).ceil() as u64
}

/// What walking through a value costs, strings and lists inside included.
fn walk(value: &Value<'_>) -> u64 {
    match value {
        Value::String(_) | Value::Bytes(_) => scaled(size(Some(value)), TRAVERSAL),
        _ => match value.elements() {
            Some(elements) => elements.iter().map(walk).sum(),
            None => 1,
        },
    }
}

pub(super) fn of_call(function: &str, arguments: &[Value<'_>], result: Option<&Value<'_>>) -> u64 {
    let (first, second) = (arguments.first(), arguments.get(1));
    let is_text = |value: Option<&Value<'_>>| matches!(value, Some(Value::String(_) | Value::Bytes(_)));
    match function {
        "check" => AUTHORIZATION,
        "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" => first.map_or(0, walk),
        "url" | "lowerAscii" | "upperAscii" | "substring" | "trim" | "isIP" | "cidr" | "isCIDR" | "quantity" | "isQuantity" | "semver" | "isSemver"
        | "startsWith" | "endsWith" | "validate" => scaled(size(first), TRAVERSAL),
        "ip" if is_text(first) => scaled(size(first), TRAVERSAL),
        "ip.isCanonical" | "replace" | "split" => scaled(size(first), 2.0 * TRAVERSAL),
        "join" => scaled(size(result), 2.0 * TRAVERSAL),
        "format" => scaled(size(result), TRAVERSAL).max(1),
        "find" | "findAll" | "matches" => ((1.0 + size(first) as f64) * TRAVERSAL).ceil() as u64 * scaled(size(second), REGEX),
        "contains" => scaled(size(first), TRAVERSAL) * scaled(size(second), TRAVERSAL),
        "containsIP" | "containsCIDR" => {
            let compared = scaled(32, TRAVERSAL);
            let parsed = if is_text(second) { scaled(size(second), TRAVERSAL) } else { 0 };
            let masked = if function == "containsCIDR" { scaled(16, TRAVERSAL) + 1 } else { 0 };
            compared + parsed + masked
        }
        "sets.contains" | "sets.intersects" => size(first).saturating_mul(size(second)).saturating_add(1),
        "sets.equivalent" => size(first).saturating_mul(size(second)).saturating_mul(2).saturating_add(1),
        "@in" if matches!(second, Some(Value::List(_) | Value::JsonList(..))) => size(second),
        "_==_" | "_!=_" => scaled(size(first).min(size(second)), TRAVERSAL),
        "_<_" | "_<=_" | "_>_" | "_>=_" if is_text(first) => scaled(size(first).min(size(second)), TRAVERSAL),
        "_+_" if is_text(first) => scaled(size(first) + size(second), TRAVERSAL),
        "bytes" | "string" if is_text(first) => scaled(size(first), TRAVERSAL),
        _ => 1,
    }
}
