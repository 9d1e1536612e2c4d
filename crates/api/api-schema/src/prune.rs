//! Pruning: removes the fields a schema does not know.
use crate::{Schema, SchemaRef, Type};
use serde_json::Value;
use std::sync::LazyLock;

pub(crate) const OBJECT_META_DEFINITION: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

static OBJECT_META: LazyLock<SchemaRef> = LazyLock::new(|| SchemaRef::builtin(OBJECT_META_DEFINITION));

/// What a schema says of one key of an object.
pub(crate) enum Child<'a> {
    Known(&'a Schema),
    /// Not described, but kept with all below it.
    Kept,
    Unknown,
}

/// `root`: the object is a resource itself, so it has kind, apiVersion and metadata whatever the schema says.
pub(crate) fn child<'a>(schema: &'a Schema, key: &str, root: bool) -> Child<'a> {
    if let Some(property) = schema.properties.get(key) {
        return Child::Known(property);
    }
    if schema.kind == Type::Object && (root || schema.embedded_resource) {
        match key {
            "kind" | "apiVersion" => return Child::Kept,
            "metadata" => return Child::Known(&OBJECT_META),
            _ => {}
        }
    }
    match &schema.additional {
        Some(schema) => Child::Known(schema),
        // Objects where there should be none are for the type check to tell.
        None if schema.preserve_unknown || schema.kind != Type::Object => Child::Kept,
        None => Child::Unknown,
    }
}

/// Removes unknown fields of a resource (kind, apiVersion and metadata are always known) and
/// tells them as upstream's strict decoder does: `unknown field "spec.containers[0].foo"`.
pub fn prune(value: &mut Value, schema: &Schema) -> Vec<String> {
    let mut unknown = Vec::new();
    walk(value, schema, true, &mut String::new(), &mut unknown);
    unknown
}

/// As [`prune`], for a value that is no resource itself.
pub fn prune_part(value: &mut Value, schema: &Schema) -> Vec<String> {
    let mut unknown = Vec::new();
    walk(value, schema, false, &mut String::new(), &mut unknown);
    unknown
}

fn walk(value: &mut Value, schema: &Schema, root: bool, path: &mut String, unknown: &mut Vec<String>) {
    let before = path.len();
    match value {
        Value::Object(object) => object.retain(|key, value| {
            let child = child(schema, key, root);
            if matches!(child, Child::Kept) {
                return true;
            }
            if before > 0 {
                path.push('.');
            }
            path.push_str(key);
            let keep = match child {
                Child::Known(schema) => {
                    walk(value, schema, false, path, unknown);
                    true
                }
                _ => {
                    unknown.push(format!("unknown field {path:?}"));
                    false
                }
            };
            path.truncate(before);
            keep
        }),
        Value::Array(items) => {
            let Some(schema) = schema.item() else { return };
            for (index, item) in items.iter_mut().enumerate() {
                path.push_str(&format!("[{index}]"));
                walk(item, schema, false, path, unknown);
                path.truncate(before);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn custom_schemas_prune_as_structural_ones_do() {
        let schema = Schema::from_open_api(&json!({"type":"object","properties":{
            "spec":{"type":"object","properties":{"known":{"type":"string"},"list":{"type":"array","items":{"type":"object","properties":{"a":{"type":"integer"}}}}}},
            "open":{"type":"object","x-kubernetes-preserve-unknown-fields":true,"properties":{"shut":{"type":"object"}}},
            "map":{"type":"object","additionalProperties":{"type":"object"}},
            "pod":{"type":"object","x-kubernetes-embedded-resource":true},
        }}))
        .unwrap();
        let mut value = json!({"apiVersion":"a/v1","kind":"A","metadata":{"name":"x","bad":1},
            "spec":{"known":"k","other":1,"list":[{"a":1},{"b":{"c":2}}]},
            "open":{"free":{"a":1},"shut":{"x":1}},
            "map":{"k":{"x":1}},
            "pod":{"kind":"Pod","apiVersion":"v1","metadata":{"name":"p","labels":{"a":"b"}},"spec":{}},
            "status":{}});
        let unknown = prune(&mut value, &schema);
        assert_eq!(
            value,
            json!({"apiVersion":"a/v1","kind":"A","metadata":{"name":"x"},"spec":{"known":"k","list":[{"a":1},{}]},
            "open":{"free":{"a":1},"shut":{}},"map":{"k":{}},"pod":{"kind":"Pod","apiVersion":"v1","metadata":{"name":"p","labels":{"a":"b"}}}})
        );
        let fields = ["map.k.x", "metadata.bad", "open.shut.x", "pod.spec", "spec.list[1].b", "spec.other", "status"];
        assert_eq!(unknown, fields.map(|f| format!("unknown field {f:?}")));
    }
}
