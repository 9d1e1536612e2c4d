//! The definitions of a document: the built-in ones from their compressed form, custom ones from their CRDs.
use super::Served;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::sync::LazyLock;

static DEFLATED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/documentation.deflate"));

static HASH: LazyLock<String> = LazyLock::new(|| Sha256::digest(DEFLATED).iter().map(|byte| format!("{byte:02x}")).collect());

pub(super) const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
pub(super) const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";
pub(super) const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";
pub(super) const STATUS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";
pub(super) const PATCH: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";
pub(super) const WATCH_EVENT: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent";

/// The two forms a definition is written in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    V2,
    V3,
}

/// Of the built-in documentation.
pub(super) fn hash() -> &'static str {
    &HASH
}

/// Calls `write` with the name and form of each definition that `served` needs, sorted by name.
pub(super) fn write(served: &[&Served], needed: BTreeSet<String>, form: Form, mut write: impl FnMut(&str, &Value)) {
    let mut text = String::new();
    flate2::read::DeflateDecoder::new(DEFLATED).read_to_string(&mut text).expect("the build deflated text");
    let built_in: BTreeMap<&str, &RawValue> = serde_json::from_str(&text).expect("the build wrote definitions");
    let custom: BTreeMap<String, Value> = served.iter().filter(|s| s.document.is_some()).flat_map(|s| [custom(s), custom_list(s)]).collect();
    let read = |name: &str| -> Option<Value> {
        let built_in = || built_in.get(name).map(|raw| serde_json::from_str(raw.get()).expect("the build wrote definitions"));
        custom.get(name).cloned().or_else(built_in)
    };

    let mut names = BTreeSet::new();
    let mut open: Vec<String> = needed.into_iter().collect();
    while let Some(name) = open.pop() {
        if names.contains(&name) {
            continue;
        }
        if let Some(definition) = read(&name) {
            references(&definition, &mut open);
            names.insert(name);
        }
    }
    for name in &names {
        let Some(mut definition) = read(name) else { continue };
        if [DELETE_OPTIONS, WATCH_EVENT].contains(&name.as_str()) {
            let kind = name.rsplit('.').next().unwrap_or_default();
            let versions: BTreeSet<(&str, &str)> = served.iter().map(|s| (s.group.as_str(), s.version.as_str())).collect();
            definition["x-kubernetes-group-version-kind"] = versions.into_iter().map(|(group, version)| gvk(group, version, kind)).collect();
        }
        write(name, &render(name, definition, form));
    }
}

pub(super) fn gvk(group: &str, version: &str, kind: &str) -> Value {
    json!({ "group": group, "version": version, "kind": kind })
}

/// A reference as a document spells it.
pub(super) fn reference(name: &str, form: Form) -> Value {
    let place = if form == Form::V2 { "#/definitions/" } else { "#/components/schemas/" };
    json!({ "$ref": format!("{place}{name}") })
}

/// The schemas below a schema. (A property may itself be called `$ref`.)
fn children(schema: &mut Map<String, Value>) -> impl Iterator<Item = &mut Value> {
    schema.iter_mut().flat_map(|(key, value)| -> Vec<&mut Value> {
        match (key.as_str(), value) {
            ("properties", Value::Object(properties)) => properties.values_mut().collect(),
            ("items" | "additionalProperties" | "not", value @ Value::Object(_)) => vec![value],
            ("allOf" | "anyOf" | "oneOf", Value::Array(schemas)) => schemas.iter_mut().collect(),
            _ => Vec::new(),
        }
    })
}

fn references(schema: &Value, found: &mut Vec<String>) {
    let mut schema = schema.clone();
    let mut open = vec![&mut schema];
    while let Some(Value::Object(schema)) = open.pop() {
        found.extend(schema.get("$ref").and_then(Value::as_str).map(str::to_owned));
        open.extend(children(schema));
    }
}

fn render(name: &str, schema: Value, form: Form) -> Value {
    let mut schema = render_node(schema, form);
    if form == Form::V3 {
        let alternatives = match name.rsplit('.').next() {
            Some("Quantity") => json!([{ "type": "string" }, { "type": "number" }]),
            Some("IntOrString") => json!([{ "type": "integer" }, { "type": "string" }]),
            _ => return schema,
        };
        if let (true, Some(schema)) = (name.starts_with("io.k8s.apimachinery."), schema.as_object_mut()) {
            schema.remove("type");
            schema.insert("oneOf".into(), alternatives);
        }
    }
    schema
}

fn render_node(schema: Value, form: Form) -> Value {
    let Value::Object(mut schema) = schema else { return schema };
    if form == Form::V2 {
        // Swagger 2.0 has none of these.
        ["oneOf", "anyOf", "allOf", "not", "nullable"].into_iter().for_each(|key| drop(schema.remove(key)));
    }
    children(&mut schema).for_each(|child| *child = render_node(child.take(), form));
    if let Some(Value::String(name)) = schema.get("$ref") {
        let reference = reference(name, form);
        schema.remove("$ref");
        if form == Form::V2 || schema.is_empty() {
            schema.insert("$ref".into(), reference["$ref"].clone());
        } else {
            schema.insert("allOf".into(), json!([reference]));
        }
    }
    Value::Object(schema)
}

const API_VERSION: &str = "APIVersion defines the versioned schema of this representation of an object. Servers should convert recognized schemas to the latest internal value, and may reject unrecognized values. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources";
const KIND: &str = "Kind is a string value representing the REST resource this object represents. Servers may infer this from the endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";
const METADATA: &str = "Standard object's metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";
const LIST_METADATA: &str =
    "Standard list metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";

/// A custom kind's definition: its CRD's schema, with what every object has.
fn custom(served: &Served) -> (String, Value) {
    let mut schema = served.document.as_deref().cloned().unwrap_or_default();
    if !schema.is_object() {
        schema = json!({});
    }
    schema["type"] = "object".into();
    schema["x-kubernetes-group-version-kind"] = json!([gvk(&served.group, &served.version, &served.kind)]);
    if !schema["properties"].is_object() {
        schema["properties"] = json!({});
    }
    let properties = &mut schema["properties"];
    properties["apiVersion"] = json!({ "type": "string", "description": API_VERSION });
    properties["kind"] = json!({ "type": "string", "description": KIND });
    properties["metadata"] = json!({ "$ref": OBJECT_META, "description": METADATA });
    (served.definition(), schema)
}

fn custom_list(served: &Served) -> (String, Value) {
    let (element, kind) = (served.definition(), &served.kind);
    let list = json!({
        "description": format!("{kind}List is a list of {kind}"),
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": { "type": "string", "description": API_VERSION },
            "kind": { "type": "string", "description": KIND },
            "metadata": { "$ref": LIST_META, "description": LIST_METADATA },
            "items": { "type": "array", "description": format!("List of {}", served.plural), "items": { "$ref": element } },
        },
        "x-kubernetes-group-version-kind": [gvk(&served.group, &served.version, &format!("{kind}List"))],
    });
    (format!("{element}List"), list)
}
