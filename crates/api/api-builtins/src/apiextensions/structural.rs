//! Whether a schema is structural: its structure is told apart from the rules for values, and whole (KEP-1002).
use crate::fields::Read;
use api_meta::{FieldError, FieldErrors, FieldPath};
use serde_json::{Value, json};

#[derive(Clone, Copy, PartialEq)]
enum Level {
    Root,
    Item,
    Field,
}

/// Everything that keeps the schemas of a definition from being structural.
pub fn violations(definition: &Value) -> Vec<String> {
    let versions = definition["spec"]["versions"].list();
    let mut all = Vec::new();
    for (index, version) in versions.iter().enumerate() {
        let document = &version["schema"]["openAPIV3Schema"];
        if let Some(path) = super::spec::place(versions, index, "schema", "validation").filter(|_| document.is_set()) {
            all.extend(check(document, &path.child("openAPIV3Schema")).iter().map(ToString::to_string));
        }
    }
    all
}

/// The same for one schema, which stands at `path`.
pub fn check(schema: &Value, path: &FieldPath) -> FieldErrors {
    let mut errors = FieldErrors::new();
    structure(&mut errors, schema, Level::Root, path);
    complete(&mut errors, schema, schema, path, path, true);
    errors.sort_by_key(ToString::to_string);
    errors
}

/// The schemas below a schema, and where they stand in it.
pub fn children(schema: &Value) -> Vec<(String, &Value)> {
    let mut all: Vec<(String, &Value)> = Vec::new();
    all.extend(schema["properties"].entries().map(|(name, child)| (format!("properties[{name}]"), child)));
    for key in ["items", "additionalProperties", "not"] {
        if schema[key].is_object() {
            all.push((key.to_owned(), &schema[key]));
        }
    }
    for key in ["allOf", "anyOf", "oneOf"] {
        all.extend(schema[key].list().iter().enumerate().map(|(index, child)| (format!("{key}[{index}]"), child)));
    }
    all
}

fn structure(errors: &mut FieldErrors, schema: &Value, level: Level, path: &FieldPath) {
    let kind = schema["type"].text();
    let at = |name: &str| path.child(name);
    let property = |name: &str| path.child("properties").key(name);
    let (embedded, int_or_string) = (schema["x-kubernetes-embedded-resource"].flag(), schema["x-kubernetes-int-or-string"].flag());
    let preserves = schema["x-kubernetes-preserve-unknown-fields"].flag();
    if kind == "array" && schema["items"].is_null() {
        errors.push(FieldError::required(&at("items"), "must be specified"));
    }
    if schema["items"].is_object() {
        structure(errors, &schema["items"], Level::Item, &at("items"));
    }
    for (name, child) in schema["properties"].entries() {
        structure(errors, child, Level::Field, &property(name));
    }
    let additional = &schema["additionalProperties"];
    if additional.is_set() {
        if level == Level::Root {
            errors.push(FieldError::forbidden(&at("additionalProperties"), "must not be used at the root"));
        }
        if additional.is_object() {
            structure(errors, additional, Level::Field, &at("additionalProperties"));
        }
    }
    if int_or_string && preserves {
        errors.push(FieldError::invalid(&at("x-kubernetes-preserve-unknown-fields"), true, "must be false if x-kubernetes-int-or-string is true"));
    }
    if int_or_string && embedded {
        errors.push(FieldError::invalid(&at("x-kubernetes-embedded-resource"), true, "must be false if x-kubernetes-int-or-string is true"));
    }
    let either = json!([{"type": "integer"}, {"type": "string"}]);
    values(errors, schema, schema["anyOf"] == either, schema["allOf"][0]["anyOf"] == either, path);

    let of_resource = level == Level::Root || embedded;
    if embedded && kind != "object" {
        const WHY: &str = "must be object if x-kubernetes-embedded-resource is true";
        errors.push(if kind.is_empty() { FieldError::required(&at("type"), WHY) } else { FieldError::invalid(&at("type"), kind, WHY) });
    } else if kind.is_empty() && !int_or_string && !preserves {
        let why = match level {
            Level::Root => "must not be empty at the root",
            Level::Item => "must not be empty for specified array items",
            Level::Field => "must not be empty for specified object fields",
        };
        errors.push(FieldError::required(&at("type"), why));
    }
    if embedded && additional.is_set() {
        errors.push(FieldError::forbidden(&at("additionalProperties"), "must not be used if x-kubernetes-embedded-resource is set"));
    }
    if level == Level::Root && !kind.is_empty() && kind != "object" {
        errors.push(FieldError::invalid(&at("type"), kind, "must be object at the root"));
    }
    for name in ["kind", "apiVersion"] {
        let field = &schema["properties"][name];
        if of_resource && field.is_set() && field["type"] != "string" {
            errors.push(FieldError::invalid(&property(name).child("type"), field["type"].text(), "must be string"));
        }
    }
    let metadata = &schema["properties"]["metadata"];
    if metadata.is_set() {
        if of_resource && metadata["type"] != "object" {
            errors.push(FieldError::invalid(&property("metadata").child("type"), metadata["type"].text(), "must be object"));
        }
        let plain = |(key, value): (&String, &Value)| match key.as_str() {
            "type" | "default" => true,
            "properties" => value.entries().all(|(name, _)| name == "name" || name == "generateName"),
            _ => value.is_zero(),
        };
        if level == Level::Root && !metadata.entries().all(plain) {
            let why = "must not specify anything other than name and generateName, but metadata is implicitly specified";
            errors.push(FieldError::forbidden(&property("metadata"), why));
        }
    }
    if embedded && !preserves && schema["properties"].entries().next().is_none() {
        let why = "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
        errors.push(FieldError::required(&at("properties"), why));
    }
}

/// The rules for values at a node, which may say nothing of structure.
fn values(errors: &mut FieldErrors, schema: &Value, skip_any_of: bool, skip_first_all_of: bool, path: &FieldPath) {
    if !skip_any_of {
        for (index, rule) in schema["anyOf"].list().iter().enumerate() {
            nested(errors, rule, false, &path.child("anyOf").index(index));
        }
    }
    for (index, rule) in schema["allOf"].list().iter().enumerate() {
        nested(errors, rule, skip_first_all_of && index == 0, &path.child("allOf").index(index));
    }
    for (index, rule) in schema["oneOf"].list().iter().enumerate() {
        nested(errors, rule, false, &path.child("oneOf").index(index));
    }
    if schema["not"].is_object() {
        nested(errors, &schema["not"], false, &path.child("not"));
    }
    let pattern = schema["pattern"].text();
    if let Err(why) = api_schema::Pattern::check(pattern) {
        errors.push(FieldError::invalid(&path.child("pattern"), pattern, format!("must be a valid regular expression, but isn't: {why}")));
    }
}

fn nested(errors: &mut FieldErrors, rule: &Value, skip_any_of: bool, path: &FieldPath) {
    values(errors, rule, skip_any_of, false, path);
    if rule["items"].is_object() {
        nested(errors, &rule["items"], false, &path.child("items"));
    }
    for (name, child) in rule["properties"].entries() {
        nested(errors, child, false, &path.child("properties").key(name));
    }
    const FORBIDDEN: [(&str, &str); 13] = [
        ("type", "must be empty"),
        ("additionalProperties", "must be undefined"),
        ("default", "must be undefined"),
        ("title", "must be empty"),
        ("description", "must be empty"),
        ("nullable", "must be false"),
        ("externalDocs", "must be undefined"),
        ("x-kubernetes-preserve-unknown-fields", "must be false"),
        ("x-kubernetes-embedded-resource", "must be false"),
        ("x-kubernetes-int-or-string", "must be false"),
        ("x-kubernetes-list-map-keys", "must be empty"),
        ("x-kubernetes-list-type", "must be undefined"),
        ("x-kubernetes-map-type", "must be undefined"),
    ];
    for (key, why) in FORBIDDEN {
        let set = if why == "must be undefined" { rule[key].is_set() } else { !rule[key].is_zero() };
        if set {
            errors.push(FieldError::forbidden(&path.child(key), format!("{why} to be structural")));
        }
    }
    if !rule["x-kubernetes-validations"].list().is_empty() {
        errors.push(FieldError::forbidden(&path.child("x-kubernetes-validations"), "must be empty to be structural"));
    }
    if rule["properties"]["metadata"].is_set() {
        errors.push(FieldError::forbidden(&path.child("properties").key("metadata"), "must not be specified in a nested context"));
    }
}

/// Every field that a rule for values names has a place in the structure (`schema`, at `path`).
fn complete(errors: &mut FieldErrors, rule: &Value, schema: &Value, path: &FieldPath, rule_path: &FieldPath, root: bool) {
    if !root {
        if rule["items"].is_object() {
            let (path, rule_path) = (path.child("items"), rule_path.child("items"));
            if schema["items"].is_null() {
                errors.push(FieldError::required(&path, format!("because it is defined in {rule_path}")));
            } else {
                complete(errors, &rule["items"], &schema["items"], &path, &rule_path, false);
            }
        }
        for (name, child) in rule["properties"].entries() {
            let (path, rule_path) = (path.child("properties").key(name), rule_path.child("properties").key(name));
            match schema["properties"].get(name) {
                Some(known) => complete(errors, child, known, &path, &rule_path, false),
                None => errors.push(FieldError::required(&path, format!("because it is defined in {rule_path}"))),
            }
        }
    }
    if rule["not"].is_object() {
        complete(errors, &rule["not"], schema, path, &rule_path.child("not"), false);
    }
    for key in ["allOf", "anyOf", "oneOf"] {
        for (index, rule) in rule[key].list().iter().enumerate() {
            complete(errors, rule, schema, path, &rule_path.child(key).index(index), false);
        }
    }
    // Upstream looks for rules at the root alone; those of deeper nodes are about themselves.
}
