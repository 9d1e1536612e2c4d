//! Whether two objects say the same, however they spell it.
use api_meta::Quantity;
use serde_json::Value;

/// Whether both say the same: quantities count by what they amount to, and what is empty as absent.
pub fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Object(a), Value::Object(b)) => {
            let null = &Value::Null;
            a.keys().chain(b.keys()).all(|key| same(a.get(key).unwrap_or(null), b.get(key).unwrap_or(null)))
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::String(a), Value::String(b)) => a == b || matches!((Quantity::parse(a), Quantity::parse(b)), (Ok(a), Ok(b)) if a == b),
        // A selector of nothing is one of everything, so only null stands for absent there; elsewhere empty does too.
        (Value::Null, empty) | (empty, Value::Null) => match empty {
            Value::Null => true,
            Value::Array(items) => items.is_empty(),
            Value::Object(fields) => fields.is_empty(),
            Value::String(text) => text.is_empty(),
            _ => false,
        },
        (a, b) => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn equality_knows_quantities_and_emptiness() {
        for (one, other, equal) in [
            (json!({"a": "1000m", "b": []}), json!({"a": "1"}), true),
            (json!({"a": "1"}), json!({"a": "2"}), false),
            (json!(["1", "2"]), json!(["1"]), false),
            (json!({"a": false}), json!({}), false),
        ] {
            assert_eq!(same(&one, &other), equal, "{one} {other}");
        }
    }
}
