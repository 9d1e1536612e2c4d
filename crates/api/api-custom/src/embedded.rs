//! Embedded objects: what a schema says of metadata, its own and that of resources embedded in it.
use api_meta::{FieldError, FieldErrors, FieldPath, names};
use api_schema::{Schema, SchemaRef};
use serde_json::Value;

/// Refuses embedded resources without identity, and metadata that breaks the rules the schema adds.
pub(crate) fn check(new: &Value, old: Option<&Value>, schema: &SchemaRef, document: &Value) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let root = FieldPath::root();
    // What a schema adds to the metadata of its own objects: rules for the name.
    if let Some(rules) = document["properties"].get("metadata")
        && let Ok(rules) = Schema::from_open_api(rules)
    {
        let at = root.child("metadata");
        errors.extend(match old {
            Some(old) => api_schema::validate_update(&new["metadata"], &old["metadata"], &rules, &at),
            None => api_schema::validate(&new["metadata"], &rules, &at),
        });
    }
    walk(new, schema, &root, &mut errors);
    errors
}

fn walk(value: &Value, schema: &Schema, path: &FieldPath, errors: &mut FieldErrors) {
    match value {
        Value::Object(object) => {
            if schema.embedded_resource {
                identity(value, path, errors);
            }
            for (key, value) in object {
                if let Some(schema) = schema.field(key) {
                    walk(value, schema, &path.child(key), errors);
                }
            }
        }
        Value::Array(items) => {
            let Some(schema) = schema.item() else { return };
            items.iter().enumerate().for_each(|(index, item)| walk(item, schema, &path.index(index), errors));
        }
        _ => {}
    }
}

/// An embedded resource says what it is.
fn identity(value: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let text = |field: &str| value[field].as_str().unwrap_or_default();
    let at = |field: &str| path.child(field);
    match text("apiVersion") {
        "" => errors.push(FieldError::required(&at("apiVersion"), "must not be empty")),
        version if version.matches('/').count() > 1 => {
            errors.push(FieldError::invalid(&at("apiVersion"), version, format!("unexpected GroupVersion string: {version}")));
        }
        _ => {}
    }
    match text("kind") {
        "" => errors.push(FieldError::required(&at("kind"), "must not be empty")),
        kind => errors.extend(names::dns1035_label(&kind.to_lowercase()).into_iter().map(|why| FieldError::invalid(&at("kind"), kind, why))),
    }
    if let Some(name) = value["metadata"]["name"].as_str().filter(|name| !name.is_empty()) {
        let at = at("metadata").child("name");
        errors.extend(names::path_segment(name).into_iter().map(|why| FieldError::invalid(&at, name, why)));
    }
}
