//! Protobuf: an object of each kind with every field its schema knows comes back from protobuf as it went.
use api_builtins::BUILTINS;
use api_schema::{Schema, Type, protobuf};
use serde_json::{Map, Value, json};

/// Kinds with no protobuf form here: they are answered in JSON.
const WITHOUT: [&str; 2] = ["NodeMetrics", "PodMetrics"];
/// How deep schemas are followed that contain themselves.
const DEEPEST: usize = 16;

/// Every field of `schema`, with something in it.
fn full(schema: &Schema, path: &mut Vec<String>) -> Option<Value> {
    let definition = schema.definition.as_deref().unwrap_or_default().to_owned();
    if path.len() > DEEPEST || !definition.is_empty() && path.contains(&definition) {
        return None;
    }
    path.push(definition);
    let value = match schema.kind {
        // What is anything to us may be a schema to protobuf.
        Type::Any => Some(json!({ "type": "text" })),
        Type::Boolean => Some(true.into()),
        Type::Integer => Some(7.into()),
        Type::Number => Some(1.5.into()),
        Type::IntOrString => Some("50%".into()),
        Type::String => Some(text(schema.format.as_deref()).into()),
        Type::Array => schema.item().and_then(|item| full(item, path)).map(|item| json!([item])),
        Type::Object => {
            let mut fields = Map::new();
            // What an object within another is called is told by its place.
            let called = |name: &str| matches!(name, "apiVersion" | "kind") && schema.properties.contains_key("metadata");
            for (name, field) in schema.properties.iter().filter(|(name, _)| !called(name)) {
                fields.extend(full(field, path).map(|value| (name.to_string(), value)));
            }
            if let Some(values) = &schema.additional {
                fields.extend(full(values, path).map(|value| ("example.com/key".to_owned(), value)));
            }
            // A map with nothing in it is none to protobuf.
            (schema.additional.is_none() || !fields.is_empty()).then_some(Value::Object(fields))
        }
    };
    path.pop();
    value
}

fn text(format: Option<&str>) -> &'static str {
    match format {
        Some("byte") => "AQI=",
        Some("date-time") => "2026-01-02T03:04:05Z",
        Some("micro-time") => "2026-01-02T03:04:05.000006Z",
        Some("quantity") => "1500m",
        _ => "text",
    }
}

/// The paths at which two values differ.
fn differences(at: &str, left: &Value, right: &Value, told: &mut Vec<String>) {
    match (left, right) {
        (Value::Object(a), Value::Object(b)) => {
            let names: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for name in names {
                let of = |map: &Map<String, Value>| map.get(name).cloned().unwrap_or_default();
                differences(&format!("{at}.{name}"), &of(a), &of(b), told);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => a.iter().zip(b).for_each(|(a, b)| differences(&format!("{at}[]"), a, b, told)),
        _ if left == right => {}
        _ => told.push(format!("{at}: {left} became {right}")),
    }
}

#[test]
fn a_full_object_of_each_kind_comes_back_as_it_went() {
    let (mut told, mut checked) = (Vec::new(), 0);
    for kind in BUILTINS {
        let (names, schema) = (kind.names(), kind.schema());
        if WITHOUT.contains(&&*names.kind) {
            continue;
        }
        let mut object = full(&schema, &mut Vec::new()).unwrap();
        object["apiVersion"] = api_meta::join_api_version(&names.group, &names.version).into();
        object["kind"] = names.kind.to_string().into();
        let Some(bytes) = protobuf::write(&object) else {
            told.push(format!("{}: a field or the kind has no number", names.kind));
            // Those that have one tell which it is.
            for (name, value) in object.as_object().unwrap() {
                let part = json!({ "apiVersion": object["apiVersion"], "kind": object["kind"], name.as_str(): value });
                if protobuf::write(&part).is_none() {
                    told.push(format!("  in {name}: {}", smallest(&object, name, value)));
                }
            }
            continue;
        };
        checked += 1;
        match protobuf::read(&bytes) {
            Ok(back) => differences(&names.kind, &object, &back, &mut told),
            Err(error) => told.push(format!("{}: {error}", names.kind)),
        }
    }
    assert!(told.is_empty(), "{} of {checked} kinds:\n{}", told.len(), told.join("\n"));
    assert!(checked > 60, "{checked}");
}

/// The deepest part of a field that can't be written by itself.
fn smallest(object: &Value, field: &str, value: &Value) -> String {
    let fails = |value: &Value| protobuf::write(&json!({ "apiVersion": object["apiVersion"], "kind": object["kind"], field: value })).is_none();
    let (mut current, mut path) = (value.clone(), field.to_owned());
    'deeper: loop {
        for pointer in pointers(&current) {
            let mut without = current.clone();
            remove(&mut without, &pointer);
            if fails(&without) {
                current = without;
                continue 'deeper;
            }
        }
        path.push_str(&current.to_string());
        return path;
    }
}

fn pointers(value: &Value) -> Vec<Vec<String>> {
    let Value::Object(fields) = value else {
        return match value {
            Value::Array(items) => items.iter().flat_map(|item| pointers(item).into_iter().map(|p| [vec!["0".to_owned()], p].concat())).collect(),
            _ => Vec::new(),
        };
    };
    let mut all: Vec<Vec<String>> = fields.keys().map(|name| vec![name.clone()]).collect();
    for (name, field) in fields {
        all.extend(pointers(field).into_iter().map(|p| [vec![name.clone()], p].concat()));
    }
    all
}

fn remove(value: &mut Value, path: &[String]) {
    match (value, path) {
        (Value::Object(fields), [last]) => drop(fields.remove(last)),
        (Value::Object(fields), [first, rest @ ..]) => remove(&mut fields[first], rest),
        (Value::Array(items), [_, rest @ ..]) => remove(&mut items[0], rest),
        _ => {}
    }
}
