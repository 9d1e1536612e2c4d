//! The fields an applied configuration speaks of, and what is wrong with a configuration.
use super::element::{Shape, field, is_declared, item, print_path, shape};
use super::fields::{Fields, SELF, below, is_member, leaf, make_member};
use api_schema::{Schema, Type};
use serde_json::{Map, Value};
use std::collections::{HashMap, HashSet};

/// The set an applier owns by applying `value`: leaves, map keys and list items, not the structs that hold them.
pub(crate) fn field_set(value: &Value, schema: &Schema) -> Fields {
    let mut node = node(value, Some(schema)).unwrap_or_default();
    node.remove(SELF);
    node
}

fn node(value: &Value, schema: Option<&Schema>) -> Option<Fields> {
    let mut set = Map::new();
    match shape(value, schema) {
        Shape::Leaf => return Some(set),
        Shape::Fields(object) => {
            for (name, value) in object {
                let mut child = node(value, schema.and_then(|s| s.field(name)));
                let is_empty = value.is_null() || value.as_object().is_some_and(Map::is_empty);
                if is_empty || !is_declared(schema, name) {
                    make_member(child.get_or_insert_default());
                }
                set.extend(child.map(|c| (field(name), Value::Object(c))));
            }
        }
        Shape::Items(items) => {
            for value in items {
                let Ok(key) = item(value, schema) else { return Some(Map::new()) };
                // Items of one key are owned together.
                let mut child = if set.contains_key(&key) { Map::new() } else { node(value, schema.and_then(Schema::item)).unwrap_or_default() };
                make_member(&mut child);
                set.insert(key, Value::Object(child));
            }
        }
    }
    Some(set).filter(|s| !s.is_empty())
}

/// The set with the structs that hold its members as members too.
pub(crate) fn with_structs(set: &Fields, schema: Option<&Schema>) -> Fields {
    set.iter()
        .map(|(key, value)| {
            let Some(node) = value.as_object().filter(|n| !n.is_empty()) else { return (key.clone(), value.clone()) };
            let name = key.strip_prefix("f:");
            let child = match name {
                Some(name) => schema.and_then(|s| s.field(name)),
                None => schema.and_then(Schema::item),
            };
            let mut node = with_structs(node, child);
            if name.is_some_and(|n| is_declared(schema, n)) {
                node.insert(SELF.into(), leaf());
            }
            (key.clone(), Value::Object(node))
        })
        .collect()
}

/// The value without the fields in `set` and all below them. An object or list that loses all it held
/// becomes null, which its own parent still counts as something held (see [`drop_emptied`]).
pub(crate) fn without(value: &Value, set: &Fields, schema: Option<&Schema>) -> Value {
    let part = |key: &str, value: &Value, child: Option<&Schema>| match below(set, key) {
        Some(node) if is_member(node) => None,
        Some(node) => Some(without(value, node, child)),
        None => Some(value.clone()),
    };
    match shape(value, schema) {
        Shape::Fields(object) if !object.is_empty() => {
            let kept = object.iter().filter_map(|(name, value)| Some((name.clone(), part(&field(name), value, schema.and_then(|s| s.field(name)))?)));
            let kept: Map<String, Value> = kept.collect();
            if kept.is_empty() { Value::Null } else { Value::Object(kept) }
        }
        Shape::Items(items) if !items.is_empty() => {
            let kept = items.iter().filter_map(|value| match item(value, schema) {
                Ok(key) => part(&key, value, schema.and_then(Schema::item)),
                Err(_) => Some(value.clone()),
            });
            let kept: Vec<Value> = kept.collect();
            if kept.is_empty() { Value::Null } else { Value::Array(kept) }
        }
        _ => value.clone(),
    }
}

/// Removes the nulls that [`without`] left for emptied objects and lists of `before`; what `own`
/// names is there, if empty.
pub(crate) fn drop_emptied(value: &mut Value, before: &Value, own: Option<&Fields>, schema: Option<&Schema>) {
    match (value, before) {
        (Value::Object(object), Value::Object(before)) => object.retain(|name, value| {
            let Some(before) = before.get(name) else { return true };
            let own = own.and_then(|o| below(o, &field(name)));
            drop_emptied(value, before, own, schema.and_then(|s| s.field(name)));
            if value.is_null() && before.is_object() && own.is_some_and(is_member) {
                *value = Value::Object(Map::new());
            }
            !value.is_null() || before.is_null()
        }),
        (value @ Value::Array(_), before) => {
            let (Shape::Items(_), Shape::Items(before)) = (shape(value, schema), shape(before, schema)) else { return };
            let before: HashMap<String, &Value> = before.iter().filter_map(|b| Some((item(b, schema).ok()?, b))).collect();
            for value in value.as_array_mut().into_iter().flatten() {
                let Ok(key) = item(value, schema) else { continue };
                if let Some(before) = before.get(&key) {
                    drop_emptied(value, before, own.and_then(|o| below(o, &key)), schema.and_then(Schema::item));
                }
            }
        }
        _ => {}
    }
}

/// What keeps a configuration from being applied, in structured-merge-diff's words.
pub(crate) fn faults(value: &Value, schema: &Schema) -> Vec<String> {
    let mut faults = Vec::new();
    walk(value, Some(schema), true, &mut Vec::new(), &mut faults);
    faults
}

fn walk(value: &Value, schema: Option<&Schema>, root: bool, path: &mut Vec<String>, faults: &mut Vec<String>) {
    let place = |path: &[String]| print_path(&path.iter().map(String::as_str).collect::<Vec<_>>());
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                let child = schema.and_then(|s| s.field(name));
                path.push(field(name));
                let resource = (root || schema.is_some_and(|s| s.embedded_resource)) && ["apiVersion", "kind", "metadata"].contains(&name.as_str());
                let closed = schema.is_some_and(|s| s.kind == Type::Object && !s.preserve_unknown);
                if child.is_none() && closed && !resource {
                    faults.push(format!("{}: field not declared in schema", place(path)));
                } else {
                    walk(value, child, false, path, faults);
                }
                path.pop();
            }
        }
        Value::Array(items) => {
            let child = schema.and_then(Schema::item);
            let keyed = matches!(shape(value, schema), Shape::Items(_));
            let mut seen = HashSet::new();
            for (index, value) in items.iter().enumerate() {
                let element = match keyed.then(|| item(value, schema)) {
                    None => format!("i:{index}"),
                    Some(Ok(element)) => {
                        if !seen.insert(element.clone()) {
                            faults.push(format!("{}: duplicate entries for key {}", place(path), print_path(&[&element])));
                        }
                        element
                    }
                    Some(Err(why)) => {
                        faults.push(format!("{}: element {index}: {why}", place(path)));
                        continue;
                    }
                };
                path.push(element);
                walk(value, child, false, path, faults);
                path.pop();
            }
        }
        _ => {}
    }
}
