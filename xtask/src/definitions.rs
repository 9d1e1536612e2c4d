//! The CustomResourceDefinitions of hosting, written out: core types named in their sources are expanded from the built-in schemas.
use anyhow::{Context, Result, anyhow};
use api_schema::{ListType, MapType, Schema, Type};
use serde_json::{Map, Value, json};
use std::path::Path;

const FOLDER: &str = "crates/hosting/virtual-cluster/data";
const NAMES: [&str; 3] = ["clusters", "virtualclusterpolicies", "clustersnapshots"];
/// What `resource.Quantity` is held to in definitions that others generate.
const QUANTITY: &str = r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$";

/// Path and text of each definition.
pub fn pages(root: &Path) -> Result<Vec<(String, String)>> {
    let shared = read(root, "shared")?;
    let page = |name: &&str| {
        let mut definition = read(root, name)?;
        let schema = definition.pointer_mut("/spec/versions/0/schema/openAPIV3Schema").with_context(|| format!("{name} has no schema"))?;
        *schema = expand(schema, &shared)?;
        Ok((format!("{FOLDER}/{name}.json"), definition.to_string() + "\n"))
    };
    NAMES.iter().map(page).collect()
}

fn read(root: &Path, name: &str) -> Result<Value> {
    let path = root.join(FOLDER).join(format!("{name}.yaml"));
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {path:?}"))?;
    serde_saphyr::from_str(&text).map_err(|error| anyhow!("{path:?}: {error}"))
}

/// The schema with every `$ref` in it replaced; what stands beside one goes before what it names.
fn expand(schema: &Value, shared: &Value) -> Result<Value> {
    let Value::Object(fields) = schema else { return Ok(schema.clone()) };
    let mut full = Map::new();
    if let Some(Value::String(name)) = fields.get("$ref") {
        let named = match name.strip_prefix('#') {
            Some(entry) => expand(shared.get(entry).with_context(|| format!("nothing shared is called {entry}"))?, shared)?,
            None => written(api_schema::builtin::definition(name).with_context(|| format!("no core type is called {name}"))?),
        };
        full.extend(named.as_object().cloned().unwrap_or_default());
    }
    for (key, value) in fields.iter().filter(|(key, _)| *key != "$ref") {
        let value = match (key.as_str(), value) {
            ("properties", Value::Object(properties)) => {
                properties.iter().map(|(name, property)| Ok((name.clone(), expand(property, shared)?))).collect::<Result<Map<_, _>>>()?.into()
            }
            ("items" | "additionalProperties", value) => expand(value, shared)?,
            _ => value.clone(),
        };
        full.insert(key.clone(), value);
    }
    Ok(full.into())
}

/// A built-in schema as a definition spells it.
fn written(schema: &Schema) -> Value {
    let mut node = Map::new();
    if schema.format.as_deref() == Some("quantity") {
        return json!({"anyOf": [{"type": "integer"}, {"type": "string"}], "pattern": QUANTITY, "x-kubernetes-int-or-string": true});
    }
    let kind = match schema.kind {
        Type::Any => return json!({"x-kubernetes-preserve-unknown-fields": true}),
        Type::IntOrString => return json!({"anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": true}),
        Type::Object => "object",
        Type::Array => "array",
        Type::String => "string",
        Type::Integer => "integer",
        Type::Number => "number",
        Type::Boolean => "boolean",
    };
    node.insert("type".into(), kind.into());
    if let Some(format) = &schema.format {
        node.insert("format".into(), (**format).into());
    }
    if !schema.properties.is_empty() {
        let properties: Map<String, Value> = schema.properties.iter().map(|(name, property)| (name.to_string(), written(property))).collect();
        node.insert("properties".into(), properties.into());
    }
    if !schema.required.is_empty() {
        node.insert("required".into(), schema.required.iter().map(|name| Value::from(&**name)).collect());
    }
    if let Some(items) = &schema.items {
        node.insert("items".into(), written(items));
    }
    if let Some(values) = &schema.additional {
        node.insert("additionalProperties".into(), written(values));
    }
    match &schema.list_type {
        _ if schema.kind != Type::Array => {}
        ListType::Atomic => drop(node.insert("x-kubernetes-list-type".into(), "atomic".into())),
        ListType::Set => drop(node.insert("x-kubernetes-list-type".into(), "set".into())),
        ListType::Map(keys) => {
            node.insert("x-kubernetes-list-type".into(), "map".into());
            node.insert("x-kubernetes-list-map-keys".into(), keys.iter().map(|key| Value::from(&**key)).collect());
            defaulted_keys(&mut node, keys);
        }
    }
    if schema.map_type == MapType::Atomic {
        node.insert("x-kubernetes-map-type".into(), "atomic".into());
    }
    node.into()
}

/// A definition's list keys must be there in every item, by being required or by a default.
fn defaulted_keys(list: &mut Map<String, Value>, keys: &[Box<str>]) {
    let Some(Value::Object(items)) = list.get_mut("items") else { return };
    let required: Vec<String> = items.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    for key in keys.iter().filter(|key| !required.iter().any(|name| **name == ***key)) {
        if let Some(Value::Object(property)) = items.get_mut("properties").and_then(|properties| properties.get_mut(&**key)) {
            property.insert("default".into(), "".into());
        }
    }
}
