//! Defaulting: fills in what a schema gives defaults for.
use crate::Schema;
use serde_json::Value;

/// Fills in defaults, deepest levels included, as upstream does for custom resources: a null where
/// the schema allows none counts as left out, and goes when there is no default.
pub fn apply_defaults(value: &mut Value, schema: &Schema) {
    match value {
        Value::Object(object) => {
            for (key, property) in &schema.properties {
                let Some(default) = &property.default else { continue };
                let left_out = object.get(&**key).is_none_or(|v| v.is_null() && !property.nullable);
                if left_out {
                    object.insert(key.to_string(), default.clone());
                }
            }
            object.retain(|key, value| {
                let Some(field) = schema.field(key) else { return true };
                fill_null(value, field);
                if value.is_null() && !is_nullable(field) && schema.properties.contains_key(key.as_str()) {
                    return false;
                }
                apply_defaults(value, field);
                true
            });
        }
        Value::Array(items) => {
            let Some(schema) = schema.item() else { return };
            for item in items {
                fill_null(item, schema);
                apply_defaults(item, schema);
            }
        }
        _ => {}
    }
}

fn fill_null(value: &mut Value, schema: &Schema) {
    if let (Value::Null, false, Some(default)) = (&*value, schema.nullable, &schema.default) {
        *value = default.clone();
    }
}

fn is_nullable(schema: &Schema) -> bool {
    schema.nullable || schema.preserve_unknown
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn defaults_reach_lists_and_maps_and_replace_nulls() {
        let schema = Schema::from_open_api(&json!({"type":"object","properties":{"spec":{"type":"object","default":{},"properties":{
            "replicas":{"type":"integer","default":1},
            "optional":{"type":"string","nullable":true,"default":"x"},
            "plain":{"type":"string"},
            "list":{"type":"array","items":{"type":"object","properties":{"port":{"type":"integer","default":80}}}},
            "map":{"type":"object","additionalProperties":{"type":"object","properties":{"on":{"type":"boolean","default":true}}}},
        }}}}))
        .unwrap();
        for (value, want) in [
            (json!({}), json!({"spec":{"replicas":1,"optional":"x"}})),
            (json!({"spec":{"replicas":null,"optional":null,"plain":null}}), json!({"spec":{"replicas":1,"optional":null}})),
            (
                json!({"spec":{"replicas":0,"list":[{},{"port":1}],"map":{"a":{}}}}),
                json!({"spec":{"replicas":0,"optional":"x","list":[{"port":80},{"port":1}],"map":{"a":{"on":true}}}}),
            ),
        ] {
            let mut value = value;
            apply_defaults(&mut value, &schema);
            assert_eq!(value, want);
        }
    }
}
