//! Reads a schema from its OpenAPI v3 form: what a CustomResourceDefinition's `openAPIV3Schema` holds.
use crate::schema::Pattern;
use crate::{Constraints, ListType, MapType, Schema, SchemaRef, Type};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Why a text is no schema.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SchemaError {
    #[error("{0}: a schema must be an object")]
    NotAnObject(String),
    #[error("{path}: type {kind:?} is not known")]
    Type { path: String, kind: String },
    #[error("{0}: nested deeper than 100 levels")]
    Depth(String),
}

const DEEPEST: usize = 100;

impl Schema {
    /// Reads `openAPIV3Schema`. Keywords a structural schema does not have are ignored.
    pub fn from_open_api(schema: &Value) -> Result<Self, SchemaError> {
        read(schema, "openAPIV3Schema", 0)
    }
    /// Reads the `openAPIV3Schema` of a custom resource, which has kind, apiVersion and metadata whatever its schema says of them.
    pub fn of_custom_resource(schema: &Value) -> Result<Self, SchemaError> {
        let mut schema = Self::from_open_api(schema)?;
        schema.kind = Type::Object;
        give_identity(&mut schema);
        Ok(schema)
    }
}

fn read(schema: &Value, path: &str, depth: usize) -> Result<Schema, SchemaError> {
    if depth > DEEPEST {
        return Err(SchemaError::Depth(path.to_owned()));
    }
    let Value::Object(schema) = schema else { return Err(SchemaError::NotAnObject(path.to_owned())) };
    let child = |value: &Value, name: &str| read(value, &format!("{path}.{name}"), depth + 1);
    let flag = |key: &str| schema.get(key).and_then(Value::as_bool).unwrap_or(false);
    let text = |key: &str| schema.get(key).and_then(Value::as_str).filter(|t| !t.is_empty());

    let kind = match text("type") {
        _ if flag("x-kubernetes-int-or-string") => Type::IntOrString,
        None => Type::Any,
        Some("object") => Type::Object,
        Some("array") => Type::Array,
        Some("string") => Type::String,
        Some("integer") => Type::Integer,
        Some("number") => Type::Number,
        Some("boolean") => Type::Boolean,
        Some(other) => return Err(SchemaError::Type { path: path.to_owned(), kind: other.to_owned() }),
    };
    let mut properties = BTreeMap::new();
    for (name, value) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        properties.insert(name.as_str().into(), SchemaRef::new(child(value, &format!("properties[{name}]"))?));
    }
    let additional = match schema.get("additionalProperties") {
        None | Some(Value::Null | Value::Bool(false)) => None,
        Some(Value::Bool(true)) => Some(SchemaRef::new(Schema { preserve_unknown: true, ..Schema::default() })),
        Some(value) => Some(SchemaRef::new(child(value, "additionalProperties")?)),
    };
    let items = schema.get("items").filter(|i| !i.is_null()).map(|value| child(value, "items").map(SchemaRef::new)).transpose()?;
    let embedded_resource = flag("x-kubernetes-embedded-resource");
    let mut schema = Schema {
        kind,
        format: text("format").map(Into::into),
        nullable: flag("nullable"),
        properties,
        additional,
        items,
        required: texts(schema, "required"),
        list_type: match text("x-kubernetes-list-type") {
            Some("set") => ListType::Set,
            Some("map") => ListType::Map(texts(schema, "x-kubernetes-list-map-keys")),
            _ => ListType::Atomic,
        },
        map_type: if text("x-kubernetes-map-type") == Some("atomic") { MapType::Atomic } else { MapType::Granular },
        default: schema.get("default").cloned(),
        preserve_unknown: flag("x-kubernetes-preserve-unknown-fields"),
        embedded_resource,
        constraints: constraints(schema, child)?,
        ..Schema::default()
    };
    if embedded_resource {
        give_identity(&mut schema);
    }
    Ok(schema)
}

/// Gives a resource the fields that every resource has.
fn give_identity(schema: &mut Schema) {
    for name in ["apiVersion", "kind"] {
        schema.properties.insert(name.into(), SchemaRef::new(Schema { kind: Type::String, ..Schema::default() }));
    }
    schema.properties.insert("metadata".into(), SchemaRef::builtin(crate::prune::OBJECT_META_DEFINITION));
}

fn constraints(schema: &Map<String, Value>, child: impl Fn(&Value, &str) -> Result<Schema, SchemaError>) -> Result<Option<Box<Constraints>>, SchemaError> {
    const KEYWORDS: &[&str] = &[
        "enum",
        "minimum",
        "maximum",
        "multipleOf",
        "minLength",
        "maxLength",
        "pattern",
        "minItems",
        "maxItems",
        "uniqueItems",
        "minProperties",
        "maxProperties",
        "allOf",
        "anyOf",
        "oneOf",
        "not",
    ];
    if !KEYWORDS.iter().any(|k| schema.contains_key(*k)) {
        return Ok(None);
    }
    let flag = |key: &str| schema.get(key).and_then(Value::as_bool).unwrap_or(false);
    let number = |key: &str| schema.get(key).and_then(Value::as_f64);
    let count = |key: &str| schema.get(key).and_then(Value::as_u64);
    let schemas = |key: &str| {
        let all = schema.get(key).and_then(Value::as_array).into_iter().flatten().enumerate();
        all.map(|(i, value)| child(value, &format!("{key}[{i}]"))).collect::<Result<Vec<_>, _>>()
    };
    Ok(Some(Box::new(Constraints {
        enumeration: schema.get("enum").and_then(Value::as_array).cloned().unwrap_or_default(),
        minimum: number("minimum"),
        maximum: number("maximum"),
        exclusive_minimum: flag("exclusiveMinimum"),
        exclusive_maximum: flag("exclusiveMaximum"),
        multiple_of: number("multipleOf"),
        min_length: count("minLength"),
        max_length: count("maxLength"),
        pattern: schema.get("pattern").and_then(Value::as_str).filter(|p| !p.is_empty()).map(Pattern::new),
        min_items: count("minItems"),
        max_items: count("maxItems"),
        unique_items: flag("uniqueItems"),
        min_properties: count("minProperties"),
        max_properties: count("maxProperties"),
        all_of: schemas("allOf")?,
        any_of: schemas("anyOf")?,
        one_of: schemas("oneOf")?,
        not: schema.get("not").map(|value| child(value, "not").map(Box::new)).transpose()?,
    })))
}

fn texts(schema: &Map<String, Value>, key: &str) -> Vec<Box<str>> {
    schema.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).map(Into::into).collect()
}
