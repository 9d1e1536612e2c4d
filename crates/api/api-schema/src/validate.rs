//! Validation against a schema, worded as apiextensions words it.
use crate::{Constraints, ListType, Schema, Type, formats};
use api_meta::{FieldError, FieldErrorKind, FieldErrors, FieldPath};
use serde_json::Value;
use std::collections::HashSet;

/// Everything the schema refuses about `value`, which stands at `path`.
///
/// For custom resources. (What upstream refuses about built-ins is told by [`crate::decode_types`] and each kind's own
/// validation; this works for them too, `required` included.)
pub fn validate(value: &Value, schema: &Schema, path: &FieldPath) -> FieldErrors {
    let mut errors = FieldErrors::new();
    check(value, None, schema, path, &mut errors);
    errors
}

/// As [`validate`], for an update of `old`: what the update leaves as it was is not held against it.
///
/// Old and new parts belong together by their field, or in a map list by their keys (KEP-4008).
pub fn validate_update(value: &Value, old: &Value, schema: &Schema, path: &FieldPath) -> FieldErrors {
    let mut errors = FieldErrors::new();
    check(value, Some(old), schema, path, &mut errors);
    errors
}

fn check(value: &Value, old: Option<&Value>, schema: &Schema, path: &FieldPath, errors: &mut FieldErrors) {
    if old == Some(value) {
        return;
    }
    if value.is_null() && schema.nullable {
        return;
    }
    let is_number_of_quantity = value.is_number() && schema.format.as_deref() == Some("quantity");
    if !has_type(value, schema.kind) && !is_number_of_quantity {
        let expected = match schema.kind {
            Type::IntOrString => "integer,string",
            other => type_name(other),
        };
        return errors.push(type_error(path, expected, actual(value)));
    }
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                if let Some(schema) = schema.field(key) {
                    check(value, old.and_then(|old| old.get(key)), schema, &path.child(key), errors);
                }
            }
            let missing = schema.required.iter().filter(|r| !object.contains_key(&***r));
            errors.extend(missing.map(|r| FieldError::required(&path.child(r), "")));
        }
        Value::Array(items) => {
            let list = schema;
            if let Some(schema) = schema.item() {
                let before = old.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
                items.iter().enumerate().for_each(|(i, item)| check(item, counterpart(item, before, list), schema, &path.index(i), errors));
            }
            check_duplicates(items, schema, path, errors);
        }
        Value::String(text) => {
            if let Some(format) = schema.format.as_deref().filter(|f| !formats::has_format(text, f)) {
                errors.push(type_error(path, format, text));
            }
        }
        Value::Number(number) if schema.format.as_deref() == Some("int32") => {
            let wide = number.as_f64().unwrap_or_default();
            if wide > f64::from(i32::MAX) {
                errors.push(invalid(path, value, format_args!("should be less than or equal to {}", i32::MAX)));
            } else if wide < f64::from(i32::MIN) {
                errors.push(invalid(path, value, format_args!("should be greater than or equal to {}", i32::MIN)));
            }
        }
        _ => {}
    }
    if let Some(constraints) = &schema.constraints {
        check_constraints(value, constraints, path, errors);
    }
}

fn has_type(value: &Value, kind: Type) -> bool {
    match kind {
        Type::Any => true,
        Type::Object => value.is_object(),
        Type::Array => value.is_array(),
        Type::String => value.is_string(),
        Type::Boolean => value.is_boolean(),
        Type::Number => value.is_number(),
        Type::Integer => is_whole(value),
        Type::IntOrString => value.is_string() || is_whole(value),
    }
}

fn is_whole(value: &Value) -> bool {
    value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|f| f.fract() == 0.0)
}

fn type_name(kind: Type) -> &'static str {
    match kind {
        Type::Any => "any",
        Type::Object => "object",
        Type::Array => "array",
        Type::String => "string",
        Type::Integer => "integer",
        Type::Number => "number",
        Type::Boolean => "boolean",
        Type::IntOrString => "int-or-string",
    }
}

fn actual(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) if is_whole(value) => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The name of a field in a message; the whole object has none.
fn place(path: &FieldPath) -> &str {
    path.as_str()
}

fn type_error(path: &FieldPath, expected: &str, found: &str) -> FieldError {
    FieldError::type_invalid(path, found, format!("{} in body must be of type {expected}: {found:?}", place(path)))
}

fn invalid(path: &FieldPath, value: &Value, what: std::fmt::Arguments<'_>) -> FieldError {
    FieldError::invalid(path, value.clone(), format!("{} in body {what}", place(path)))
}

fn check_constraints(value: &Value, constraints: &Constraints, path: &FieldPath, errors: &mut FieldErrors) {
    let mut refuse = |what: std::fmt::Arguments<'_>| errors.push(invalid(path, value, what));
    match value {
        Value::Number(number) => {
            let number = number.as_f64().unwrap_or_default();
            if let Some(maximum) = constraints.maximum {
                if constraints.exclusive_maximum && number >= maximum {
                    refuse(format_args!("should be less than {maximum}"));
                } else if number > maximum {
                    refuse(format_args!("should be less than or equal to {maximum}"));
                }
            }
            if let Some(minimum) = constraints.minimum {
                if constraints.exclusive_minimum && number <= minimum {
                    refuse(format_args!("should be greater than {minimum}"));
                } else if number < minimum {
                    refuse(format_args!("should be greater than or equal to {minimum}"));
                }
            }
            if let Some(factor) = constraints.multiple_of.filter(|f| *f > 0.0 && (number / f).fract() != 0.0) {
                refuse(format_args!("should be a multiple of {factor}"));
            }
        }
        Value::String(text) => {
            let length = text.chars().count() as u64;
            if let Some(least) = constraints.min_length.filter(|l| length < *l) {
                refuse(format_args!("should be at least {least} chars long"));
            }
            if let Some(pattern) = constraints.pattern.as_ref().filter(|p| !p.matches(text)) {
                refuse(format_args!("should match '{}'", pattern.as_str()));
            }
            if let Some(most) = constraints.max_length.filter(|m| length > *m) {
                errors.push(FieldError::too_long(path, most as usize));
            }
        }
        Value::Array(items) => {
            let length = items.len() as u64;
            if let Some(least) = constraints.min_items.filter(|l| length < *l) {
                refuse(format_args!("should have at least {least} items"));
            }
            if constraints.unique_items && first_duplicates(items.iter().map(|i| Some(i.to_string()))).next().is_some() {
                refuse(format_args!("shouldn't contain duplicates"));
            }
            if let Some(most) = constraints.max_items.filter(|m| length > *m) {
                errors.push(FieldError::too_many(path, items.len(), most as usize));
            }
        }
        Value::Object(object) => {
            let length = object.len() as u64;
            if let Some(least) = constraints.min_properties.filter(|l| length < *l) {
                refuse(format_args!("should have at least {least} properties"));
            }
            if let Some(most) = constraints.max_properties.filter(|m| length > *m) {
                errors.push(FieldError::too_many(path, object.len(), most as usize));
            }
        }
        Value::Null | Value::Bool(_) => {}
    }
    if !constraints.enumeration.is_empty() && !constraints.enumeration.contains(value) {
        errors.push(not_supported(path, value, &constraints.enumeration));
    }
    check_combinations(value, constraints, path, errors);
}

fn check_combinations(value: &Value, constraints: &Constraints, path: &FieldPath, errors: &mut FieldErrors) {
    let failures = |schema: &Schema| validate(value, schema, path);
    if let Some(failed) = constraints.all_of.iter().map(failures).find(|f| !f.is_empty()) {
        errors.push(invalid(path, value, format_args!("must validate all the schemas (allOf)")));
        errors.extend(failed);
    }
    if !constraints.any_of.is_empty() && !constraints.any_of.iter().any(|s| failures(s).is_empty()) {
        errors.push(invalid(path, value, format_args!("must validate at least one schema (anyOf)")));
        // The first alternative's own failures say more than none would.
        errors.extend(failures(&constraints.any_of[0]));
    }
    if !constraints.one_of.is_empty() {
        let matching = constraints.one_of.iter().filter(|s| failures(s).is_empty()).count();
        if matching != 1 {
            let found = if matching == 0 { "Found none valid".to_owned() } else { format!("Found {matching} valid alternatives") };
            errors.push(invalid(path, value, format_args!("must validate one and only one schema (oneOf). {found}")));
        }
    }
    if constraints.not.as_ref().is_some_and(|s| failures(s).is_empty()) {
        errors.push(invalid(path, value, format_args!("must not validate the schema (not)")));
    }
}

/// Supported values in the schema's own order.
fn not_supported(path: &FieldPath, value: &Value, supported: &[Value]) -> FieldError {
    let names: Vec<String> = supported.iter().map(|v| v.as_str().map_or_else(|| format!("{:?}", v.to_string()), |s| format!("{s:?}"))).collect();
    FieldError { kind: FieldErrorKind::NotSupported, path: path.clone(), value: value.clone(), detail: format!("supported values: {}", names.join(", ")) }
}

/// The key of an item of a map list.
fn key_of(item: &Value, keys: &[Box<str>], list: &Schema) -> Option<Value> {
    let object = item.as_object()?;
    let default = |key: &str| list.item()?.field(key)?.default.clone();
    Some(keys.iter().filter_map(|k| Some((k.to_string(), object.get(&**k).cloned().or_else(|| default(k))?))).collect())
}

/// What an item of a list was before, as far as that can be told.
fn counterpart<'a>(item: &Value, before: &'a [Value], list: &Schema) -> Option<&'a Value> {
    let ListType::Map(keys) = &list.list_type else { return None };
    let key = key_of(item, keys, list)?;
    before.iter().find(|other| key_of(other, keys, list).as_ref() == Some(&key))
}

/// Sets hold each value once, map lists each key.
fn check_duplicates(items: &[Value], schema: &Schema, path: &FieldPath, errors: &mut FieldErrors) {
    match &schema.list_type {
        ListType::Atomic => {}
        ListType::Set => {
            errors.extend(first_duplicates(items.iter().map(|i| Some(i.to_string()))).map(|i| FieldError::duplicate(&path.index(i), items[i].clone())))
        }
        ListType::Map(keys) => {
            let keys: Vec<Option<Value>> = items.iter().map(|item| key_of(item, keys, schema)).collect();
            for i in first_duplicates(keys.iter().map(|k| k.as_ref().map(Value::to_string))) {
                errors.push(FieldError::duplicate(&path.index(i), keys[i].clone().unwrap_or_default()));
            }
        }
    }
}

/// The indexes of items that came before; each duplicated item once.
fn first_duplicates(items: impl Iterator<Item = Option<String>>) -> impl Iterator<Item = usize> {
    let (mut seen, mut told) = (HashSet::new(), HashSet::new());
    items.enumerate().filter_map(move |(i, item)| {
        let item = item?;
        (!seen.insert(item.clone()) && told.insert(item)).then_some(i)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn messages_are_apiextensions_own() {
        let schema = Schema::from_open_api(&json!({"type":"object","required":["spec"],"properties":{"spec":{"type":"object","required":["size"],"properties":{
            "x":{"type":"integer"},
            "size":{"type":"integer","format":"int32","minimum":0,"maximum":10},
            "name":{"type":"string","pattern":"^[a-z]+$","minLength":2,"maxLength":5},
            "mode":{"type":"string","enum":["b","a"]},
            "when":{"type":"string","format":"date-time"},
            "port":{"x-kubernetes-int-or-string":true},
            "half":{"type":"number","exclusiveMinimum":true,"minimum":0,"multipleOf":0.5},
            "set":{"type":"array","x-kubernetes-list-type":"set","maxItems":3,"items":{"type":"string"}},
            "map":{"type":"array","x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":["name"],"items":{"type":"object","properties":{"name":{"type":"string"},"v":{"type":"boolean"}}}},
            "none":{"type":"string","nullable":true},
            "either":{"type":"object","oneOf":[{"required":["a"]},{"required":["b"]}],"properties":{"a":{"type":"string"},"b":{"type":"string"}}},
        }}}}))
        .unwrap();
        let check = |spec: Value, want: &[&str]| {
            let errors: Vec<String> = validate(&json!({"spec":spec.clone()}), &schema, &FieldPath::root()).iter().map(ToString::to_string).collect();
            assert_eq!(errors, want, "{spec}");
        };
        check(json!({"size":1,"none":null,"port":"http","half":1.5,"x":2.0}), &[]);
        check(json!({"size":1,"x":"a"}), &[r#"spec.x: Invalid value: "string": spec.x in body must be of type integer: "string""#]);
        check(json!({"size":-1}), &["spec.size: Invalid value: -1: spec.size in body should be greater than or equal to 0"]);
        check(json!({"size":11}), &["spec.size: Invalid value: 11: spec.size in body should be less than or equal to 10"]);
        check(json!({}), &["spec.size: Required value"]);
        check(
            json!({"size":1,"name":"A"}),
            &[
                r#"spec.name: Invalid value: "A": spec.name in body should be at least 2 chars long"#,
                r#"spec.name: Invalid value: "A": spec.name in body should match '^[a-z]+$'"#,
            ],
        );
        check(json!({"size":1,"name":"abcdef"}), &["spec.name: Too long: may not be more than 5 bytes"]);
        check(json!({"size":1,"mode":"c"}), &[r#"spec.mode: Unsupported value: "c": supported values: "b", "a""#]);
        check(json!({"size":1,"when":"x"}), &[r#"spec.when: Invalid value: "x": spec.when in body must be of type date-time: "x""#]);
        check(json!({"size":1,"port":true}), &[r#"spec.port: Invalid value: "boolean": spec.port in body must be of type integer,string: "boolean""#]);
        check(json!({"size":1,"half":0}), &["spec.half: Invalid value: 0: spec.half in body should be greater than 0"]);
        check(json!({"size":1,"half":0.7}), &["spec.half: Invalid value: 0.7: spec.half in body should be a multiple of 0.5"]);
        check(json!({"size":1,"set":["a","b","a","a"]}), &[r#"spec.set[2]: Duplicate value: "a""#, "spec.set: Too many: 4: must have at most 3 items"]);
        check(
            json!({"size":1,"map":[{"name":"a"},{"name":"a","v":1}]}),
            &[
                r#"spec.map[1].v: Invalid value: "integer": spec.map[1].v in body must be of type boolean: "integer""#,
                r#"spec.map[1]: Duplicate value: {"name":"a"}"#,
            ],
        );
        check(json!({"size":1,"x":null}), &[r#"spec.x: Invalid value: "null": spec.x in body must be of type integer: "null""#]);
        check(
            json!({"size":1,"either":{}}),
            &["spec.either: Invalid value: {}: spec.either in body must validate one and only one schema (oneOf). Found none valid"],
        );
    }

    #[test]
    fn built_in_schemas_validate_too() {
        let pod = crate::builtin::for_kind("", "v1", "Pod").unwrap();
        let value = json!({"spec":{"containers":[{"name":"a","ports":[{"containerPort":80},{"containerPort":80,"protocol":"TCP"}]}],"restartPolicy":1}});
        let errors: Vec<String> = validate(&value, &pod, &FieldPath::root()).iter().map(ToString::to_string).collect();
        assert_eq!(
            errors,
            [
                r#"spec.containers[0].ports[1]: Duplicate value: {"containerPort":80,"protocol":"TCP"}"#,
                r#"spec.restartPolicy: Invalid value: "integer": spec.restartPolicy in body must be of type string: "integer""#,
            ]
        );
    }
}
