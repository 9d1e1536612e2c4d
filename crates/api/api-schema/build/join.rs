//! Joins what k8s-openapi describes with the facts it lacks, into one neutral form of every definition.
//!
//! The form is OpenAPI's, but a `$ref` holds the bare definition name and may stand beside other keywords.
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Values of list-map keys that may be left out; server-side apply needs them to find an element.
const DEFAULTS: &[(&str, &str, &str)] = &[("io.k8s.api.core.v1.ContainerPort", "protocol", "TCP"), ("io.k8s.api.core.v1.ServicePort", "protocol", "TCP")];

/// Definitions that hold anything at all.
const ANYTHING: &[&str] = &["JSON", "JSONSchemaPropsOrArray", "JSONSchemaPropsOrBool", "JSONSchemaPropsOrStringArray"];

pub fn join(described: BTreeMap<String, Value>, facts: &Map<String, Value>) -> BTreeMap<String, Value> {
    let mut definitions: BTreeMap<String, Value> = described.into_iter().map(|(name, schema)| (name, neutral(schema))).collect();
    for name in facts.keys().filter(|n| !definitions.contains_key(*n)).cloned().collect::<Vec<_>>() {
        let list = list_of(&name, &definitions);
        definitions.insert(name, list);
    }
    for (name, schema) in &mut definitions {
        let schema = schema.as_object_mut().expect("a definition is an object");
        // k8s-openapi's idea of what is required follows its own Rust types; the facts are upstream's.
        schema.remove("required");
        correct(name, schema);
        if let Some(facts) = facts.get(name) {
            add_facts(name, schema, facts);
        }
    }
    for (definition, field, value) in DEFAULTS {
        definitions.get_mut(*definition).expect("the definition exists")["properties"][*field]["default"] = json!(value);
    }
    definitions
}

/// Turns `#/$defs/NAME` references into bare names.
fn neutral(mut schema: Value) -> Value {
    match &mut schema {
        Value::Object(map) => {
            for (key, value) in map.iter_mut() {
                match value {
                    Value::String(text) if key == "$ref" => *text = text.trim_start_matches("#/$defs/").to_owned(),
                    other => *other = neutral(other.take()),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| *item = neutral(item.take())),
        _ => {}
    }
    schema
}

/// The list kind of `element`, which k8s-openapi has only as a generic type.
fn list_of(name: &str, definitions: &BTreeMap<String, Value>) -> Value {
    let element = name.strip_suffix("List").expect("only list kinds are missing");
    assert!(definitions.contains_key(element), "{name} has an element kind");
    let kind = element.rsplit('.').next().unwrap_or(element);
    let type_meta = &definitions["io.k8s.api.core.v1.Pod"]["properties"];
    json!({
        "description": format!("{kind}List is a list of {kind}"),
        "type": "object",
        "properties": {
            "apiVersion": type_meta["apiVersion"],
            "kind": type_meta["kind"],
            "metadata": {
                "$ref": "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta",
                "description": "Standard list metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds",
            },
            "items": { "type": "array", "description": format!("items is the list of {kind}"), "items": { "$ref": element } },
        },
    })
}

/// Mends what schemars cannot say, to what upstream's document says.
fn correct(name: &str, schema: &mut Map<String, Value>) {
    let short = name.rsplit('.').next().unwrap_or(name);
    match short {
        "Quantity" | "IntOrString" => {
            schema.remove("x-kubernetes-int-or-string");
            schema.insert("type".into(), json!("string"));
            if short == "IntOrString" {
                schema.insert("format".into(), json!("int-or-string"));
            }
        }
        _ if ANYTHING.contains(&short) => {
            schema.remove("oneOf");
            schema.remove("type");
        }
        _ => {}
    }
}

fn add_facts(name: &str, schema: &mut Map<String, Value>, facts: &Value) {
    if let Some(required) = facts.get("required") {
        schema.insert("required".into(), required.clone());
    }
    if let Some(kinds) = facts.get("gvk").and_then(Value::as_array) {
        let kinds: Vec<Value> = kinds.iter().filter_map(Value::as_str).filter(|k| *k != "*").map(kind).collect();
        if !kinds.is_empty() {
            schema.insert("x-kubernetes-group-version-kind".into(), kinds.into());
        }
    }
    for (key, value) in facts.get("self").and_then(Value::as_object).into_iter().flatten() {
        schema.insert(format!("x-kubernetes-{key}"), value.clone());
    }
    for (field, facts) in facts.get("fields").and_then(Value::as_object).into_iter().flatten() {
        let property = schema["properties"].get_mut(field).unwrap_or_else(|| panic!("{name} has the field {field}"));
        let property = property.as_object_mut().expect("a property is an object");
        for (key, value) in facts.as_object().expect("a field's facts are an object") {
            property.insert(format!("x-kubernetes-{key}"), value.clone());
        }
    }
}

/// `group/version/Kind` as OpenAPI's extension spells it.
fn kind(text: &str) -> Value {
    let parts: Vec<&str> = text.split('/').collect();
    let [group, version, kind] = parts[..] else { panic!("{text} is group/version/Kind") };
    json!({ "group": group, "version": version, "kind": kind })
}
