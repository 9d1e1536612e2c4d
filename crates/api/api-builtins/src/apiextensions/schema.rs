//! The schema of one version, node by node: what upstream allows of OpenAPI v3, and its own extensions.
use crate::fields::Read;
use api_meta::{FieldError, FieldErrors, FieldPath};
use api_schema::Schema;
use serde_json::Value;

const TYPES: &[&str] = &["array", "boolean", "integer", "number", "object", "string"];

/// What a node inherits from where it stands.
#[derive(Clone, Copy, Default)]
struct Inside<'a> {
    /// Why there may be no defaults here.
    no_defaults: Option<&'a str>,
    /// In the metadata, kind or apiVersion of a resource.
    meta: bool,
}

pub fn validate(errors: &mut FieldErrors, schema: &Value, path: &FieldPath) {
    node(errors, schema, path, Inside::default(), true);
}

fn node(errors: &mut FieldErrors, schema: &Value, path: &FieldPath, inside: Inside<'_>, root: bool) {
    let at = |name: &str| path.child(name);
    plain(errors, schema, path, inside);
    if schema["uniqueItems"].flag() {
        errors.push(FieldError::forbidden(&at("uniqueItems"), "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"));
    }
    let additional = &schema["additionalProperties"];
    let has_properties = schema["properties"].entries().next().is_some();
    if additional.is_set() && has_properties && *additional != true {
        errors.push(FieldError::forbidden(&at("additionalProperties"), "additionalProperties and properties are mutual exclusive"));
    }
    if additional.is_object() {
        let reason = inside.meta.then_some("inside additionalProperties applying to object metadata").or(inside.no_defaults);
        node(errors, additional, &at("additionalProperties"), Inside { no_defaults: reason, ..inside }, false);
    }
    let resource = root || schema["x-kubernetes-embedded-resource"].flag();
    for (name, child) in schema["properties"].entries() {
        let meta = resource && matches!(name.as_str(), "metadata" | "kind" | "apiVersion");
        let reason = format!("in top-level {name}");
        let no_defaults = if meta && root { Some(reason.as_str()) } else { inside.no_defaults };
        node(errors, child, &at("properties").key(name), Inside { no_defaults, meta: inside.meta || meta }, false);
    }
    if schema["not"].is_object() {
        node(errors, &schema["not"], &at("not"), inside, false);
    }
    for key in ["allOf", "oneOf", "anyOf"] {
        for (index, child) in schema[key].list().iter().enumerate() {
            node(errors, child, &at(key).index(index), inside, false);
        }
    }
    if schema["items"].is_object() {
        node(errors, &schema["items"], &at("items"), inside, false);
    }
    lists_and_maps(errors, schema, path);
}

/// What OpenAPI has and structural schemas don't.
fn plain(errors: &mut FieldErrors, schema: &Value, path: &FieldPath, inside: Inside<'_>) {
    let at = |name: &str| path.child(name);
    let kind = schema["type"].text();
    if !kind.is_empty() && !TYPES.contains(&kind) {
        errors.push(FieldError::not_supported(&at("type"), kind, TYPES));
    }
    if let Some(reason) = inside.no_defaults.filter(|_| schema.get("default").is_some()) {
        errors.push(FieldError::forbidden(&at("default"), format!("must not be set {reason}")));
    }
    for key in ["id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref"] {
        if !schema[key].is_zero() || (schema[key].is_set() && matches!(key, "additionalItems" | "dependencies" | "$ref")) {
            errors.push(FieldError::forbidden(&at(key), format!("{key} is not supported")));
        }
    }
    if kind == "null" {
        errors.push(FieldError::forbidden(&at("type"), "type cannot be set to null, use nullable as an alternative"));
    }
    if schema["items"].is_array() {
        errors.push(FieldError::forbidden(&at("items"), "items must be a schema object and not an array"));
    }
    if inside.meta && schema["x-kubernetes-embedded-resource"].flag() {
        errors.push(FieldError::forbidden(&at("x-kubernetes-embedded-resource"), "must not be used inside of resource meta"));
    }
}

fn lists_and_maps(errors: &mut FieldErrors, schema: &Value, path: &FieldPath) {
    let at = |name: &str| path.child(name);
    let kind = schema["type"].text();
    if schema["x-kubernetes-preserve-unknown-fields"] == false {
        errors.push(FieldError::invalid(&at("x-kubernetes-preserve-unknown-fields"), false, "must be true or undefined"));
    }
    let mut of_type = |field: &str, wanted: &str| {
        if schema[field].is_null() || kind == wanted {
            return;
        }
        let why = format!("must be {wanted} if {field} is specified");
        errors.push(if kind.is_empty() { FieldError::required(&at("type"), why) } else { FieldError::invalid(&at("type"), kind, why) });
    };
    of_type("x-kubernetes-map-type", "object");
    of_type("x-kubernetes-list-type", "array");
    let map_type = &schema["x-kubernetes-map-type"];
    if map_type.is_set() && !matches!(map_type.text(), "atomic" | "granular") {
        errors.push(FieldError::not_supported(&at("x-kubernetes-map-type"), map_type.text(), &["atomic", "granular"]));
    }
    let (list_type, items) = (&schema["x-kubernetes-list-type"], &schema["items"]);
    if list_type == "set" && kind == "array" {
        const WHY: &str = "must be atomic as item of a list with x-kubernetes-list-type=set";
        let own = |field: &str| (&items[field], at("items").child(field));
        let ((list, list_path), (map, map_path)) = (own("x-kubernetes-list-type"), own("x-kubernetes-map-type"));
        match items["type"].text() {
            "array" if list.is_set() && list != "atomic" => errors.push(FieldError::invalid(&list_path, list.clone(), WHY)),
            "object" if map != "atomic" => errors.push(FieldError::invalid(&map_path, map.clone(), WHY)),
            _ => {}
        }
    }
    if list_type.is_set() && !matches!(list_type.text(), "atomic" | "set" | "map") {
        errors.push(FieldError::not_supported(&at("x-kubernetes-list-type"), list_type.text(), &["atomic", "set", "map"]));
    }
    let keys = &schema["x-kubernetes-list-map-keys"];
    if !keys.list().is_empty() && list_type != "map" {
        const WHY: &str = "must be map if x-kubernetes-list-map-keys is non-empty";
        let path = at("x-kubernetes-list-type");
        errors.push(if list_type.is_null() { FieldError::required(&path, WHY) } else { FieldError::invalid(&path, list_type.text(), WHY) });
    }
    if list_type == "map" {
        map_list(errors, keys, items, path);
    }
    if matches!(list_type.text(), "set" | "map") && items["nullable"].flag() {
        let why = format!("cannot be nullable when x-kubernetes-list-type is {}", list_type.text());
        errors.push(FieldError::forbidden(&at("items").child("nullable"), why));
    }
    if list_type == "map" {
        for key in keys.texts() {
            let property = &items["properties"][key];
            let path = at("items").child("properties").key(key);
            if property.is_null() {
                continue;
            }
            if !items["required"].texts().any(|required| required == key) && property.get("default").is_none() {
                let why = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
                errors.push(FieldError::required(&path.child("default"), why));
            }
            if property["nullable"].flag() {
                errors.push(FieldError::forbidden(&path.child("nullable"), "this property is in x-kubernetes-list-map-keys, so it cannot be nullable"));
            }
        }
    }
}

fn map_list(errors: &mut FieldErrors, keys: &Value, items: &Value, path: &FieldPath) {
    let at = |name: &str| path.child(name);
    let keys_path = at("x-kubernetes-list-map-keys");
    if keys.list().is_empty() {
        errors.push(FieldError::required(&keys_path, "must not be empty if x-kubernetes-list-type is map"));
    }
    if items.is_null() {
        return errors.push(FieldError::required(&at("items"), "must have a schema if x-kubernetes-list-type is map"));
    }
    if items.is_array() {
        return errors.push(FieldError::invalid(&at("items"), items.clone(), "must only have a single schema if x-kubernetes-list-type is map"));
    }
    let kind = items["type"].text();
    if kind != "object" {
        let why = "must be object if parent array's x-kubernetes-list-type is map";
        return errors.push(FieldError::invalid(&at("items").child("type"), kind, why));
    }
    let mut seen = Vec::new();
    for key in keys.texts() {
        match items["properties"].get(key) {
            Some(property) if matches!(property["type"].text(), "array" | "object") => {
                let why = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                errors.push(FieldError::invalid(&at("items").child("properties").key(key).child("type"), kind, why));
            }
            Some(_) => {}
            None => errors.push(FieldError::invalid(&keys_path, keys.clone(), "entries must all be names of item properties")),
        }
        if seen.contains(&key) {
            errors.push(FieldError::invalid(&keys_path, keys.clone(), "must not contain duplicate entries"));
        }
        seen.push(key);
    }
}

/// Every default fits the schema it stands in, and holds nothing the schema doesn't know.
pub fn defaults(errors: &mut FieldErrors, schema: &Value, path: &FieldPath) {
    if let Some(default) = schema.get("default")
        && let Ok(own) = Schema::from_open_api(schema)
    {
        let at = path.child("default");
        let mut pruned = default.clone();
        // The default of a node is no resource of its own: its kind and metadata are fields like others.
        if !api_schema::prune_part(&mut pruned, &own).is_empty() {
            errors.push(FieldError::invalid(&at, default.clone(), "must not have unknown fields"));
        }
        errors.extend(api_schema::validate(default, &own, &at));
    }
    // Defaults are not looked for inside of maps, where there may be none that matter.
    for (name, child) in schema["properties"].entries() {
        defaults(errors, child, &path.child("properties").key(name));
    }
    if schema["items"].is_object() {
        defaults(errors, &schema["items"], &path.child("items"));
    }
}
