//! One version of a custom kind: its schema, subresources, columns and selectable fields.
use super::spec::place;
use super::{schema, structural};
use crate::check::{At, Report};
use crate::fields::Read;
use api_meta::{FieldError, FieldErrors, FieldPath};
use api_schema::cel::CompiledRules;
use api_schema::{Schema, SchemaRef};
use serde_json::Value;

const COLUMN_TYPES: &[&str] = &["boolean", "date", "integer", "number", "string"];
const COLUMN_FORMATS: &[&str] = &["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];
const MOST_SELECTABLE_FIELDS: usize = 8;

pub fn validate(errors: &mut FieldErrors, version: &At, versions: &[Value], index: usize, old: Option<&Value>) {
    deprecation(errors, version);
    let value = version.value();
    let was = old.and_then(|old| old["spec"]["versions"].list().iter().find(|other| other["name"] == value["name"]));
    if let Some(path) = place(versions, index, "schema", "validation").filter(|_| value["schema"]["openAPIV3Schema"].is_set()) {
        schema(errors, version, &path, was);
    }
    if let Some(path) = place(versions, index, "subresources", "subresources") {
        scale(errors, &At::new(&value["subresources"]["scale"], path.child("scale").as_str()));
    }
    if let Some(path) = place(versions, index, "additionalPrinterColumns", "additionalPrinterColumns") {
        At::new(&value["additionalPrinterColumns"], path.as_str()).items().for_each(|at| column(errors, &at));
    }
    if let Some(path) = place(versions, index, "selectableFields", "selectableFields") {
        if value["schema"]["openAPIV3Schema"].is_null() {
            return errors.push(FieldError::invalid(&path, "", "may only be set when `version.schema.openAPIV3Schema` is not included"));
        }
        let unchanged = was.is_some_and(|was| was["selectableFields"] == value["selectableFields"]);
        selectable(errors, &At::new(&value["selectableFields"], path.as_str()), &value["schema"]["openAPIV3Schema"], unchanged);
    }
}

/// Whether a schema gives a default anywhere.
pub fn has_defaults(schema: &Value) -> bool {
    let Value::Object(fields) = schema else { return false };
    fields.contains_key("default") || structural::children(schema).iter().any(|(_, child)| has_defaults(child))
}

fn deprecation(errors: &mut FieldErrors, version: &At) {
    let warning = version.field("deprecationWarning");
    let Some(text) = warning.as_str() else { return };
    if !version["deprecated"].flag() {
        return errors.invalid(&warning, "can only be set for deprecated versions");
    }
    if text.len() > 256 {
        errors.invalid(&warning, "must be <= 256 characters long");
    }
    if text.is_empty() {
        errors.invalid(&warning, "must not be an empty string");
    }
    if let Some((index, _)) = text.char_indices().find(|(_, c)| c.is_control()) {
        errors.invalid(&warning, format!("must only contain printable UTF-8 characters; non-printable character found at index {index}"));
    }
}

/// What may stand at the root of a schema beside a status subresource, by Go's names.
const AT_ROOT: &[(&str, &str)] = &[
    ("description", "Description"),
    ("type", "Type"),
    ("format", "Format"),
    ("title", "Title"),
    ("maximum", "Maximum"),
    ("exclusiveMaximum", "ExclusiveMaximum"),
    ("minimum", "Minimum"),
    ("exclusiveMinimum", "ExclusiveMinimum"),
    ("maxLength", "MaxLength"),
    ("minLength", "MinLength"),
    ("pattern", "Pattern"),
    ("maxItems", "MaxItems"),
    ("minItems", "MinItems"),
    ("uniqueItems", "UniqueItems"),
    ("multipleOf", "MultipleOf"),
    ("required", "Required"),
    ("items", "Items"),
    ("properties", "Properties"),
    ("externalDocs", "ExternalDocs"),
    ("example", "Example"),
    ("x-kubernetes-preserve-unknown-fields", "XPreserveUnknownFields"),
    ("x-kubernetes-validations", "XValidations"),
];

fn schema(errors: &mut FieldErrors, version: &At, path: &FieldPath, was: Option<&Value>) {
    let document = &version["schema"]["openAPIV3Schema"];
    let path = path.child("openAPIV3Schema");
    let before = errors.len();
    if !version["subresources"]["status"].is_null() {
        let kind = document["type"].text();
        if !kind.is_empty() && kind != "object" {
            let why = "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled";
            errors.push(FieldError::invalid(&path.child("type"), kind, why));
        } else if document.entries().any(|(key, value)| !value.is_zero() && !AT_ROOT.iter().any(|(name, _)| name == key)) {
            let names: Vec<&str> = AT_ROOT.iter().map(|(_, name)| *name).collect();
            let why = format!("only [{}] fields are allowed at the root of the schema if the status subresource is enabled", names.join(" "));
            errors.push(FieldError::invalid(&path, document.clone(), why));
        }
    }
    if document["nullable"].flag() {
        errors.push(FieldError::forbidden(&path.child("nullable"), "nullable cannot be true at the root"));
    }
    // What was let in as it is stays in.
    let tightened = was.is_none_or(|was| was["schema"]["openAPIV3Schema"] != *document);
    if tightened {
        let structure = structural::check(document, &path);
        if structure.is_empty() {
            schema::defaults(errors, document, &path);
        }
        errors.extend(structure);
    }
    schema::validate(errors, document, &path);
    if errors.len() > before {
        return;
    }
    match Schema::of_custom_resource(document) {
        Err(error) => errors.push(FieldError::invalid(&path, "", error.to_string())),
        Ok(schema) if tightened => errors.extend(CompiledRules::check(document, &SchemaRef::new(schema), &path)),
        Ok(_) => {}
    }
}

/// A path of names, each after a dot.
fn simple_path(errors: &mut FieldErrors, at: &At) -> bool {
    let wrong = !at.text().starts_with('.');
    if wrong {
        errors.invalid(at, "must be a simple json path starting with .");
    }
    !wrong
}

fn scale(errors: &mut FieldErrors, scale: &At) {
    if scale.is_null() {
        return;
    }
    let (spec, status, selector) = (scale.field("specReplicasPath"), scale.field("statusReplicasPath"), scale.field("labelSelectorPath"));
    for (at, root) in [(&spec, ".spec"), (&status, ".status")] {
        if at.text().is_empty() {
            errors.required(at, "");
        } else if simple_path(errors, at) && !at.text().starts_with(&format!("{root}.")) {
            errors.invalid(at, format!("should be a json path under {root}"));
        }
    }
    let text = selector.text();
    if !text.is_empty() && simple_path(errors, &selector) && !text.starts_with(".spec.") && !text.starts_with(".status.") {
        errors.invalid(&selector, "should be a json path under either .spec or .status");
    }
}

fn column(errors: &mut FieldErrors, column: &At) {
    errors.present(&column.field("name"));
    let (kind, format) = (column.field("type"), column.field("format"));
    let types = format!("must be one of {}", COLUMN_TYPES.join(","));
    if kind.text().is_empty() {
        errors.required(&kind, &types);
    } else if !COLUMN_TYPES.contains(&kind.text()) {
        errors.invalid(&kind, types);
    }
    if !format.text().is_empty() && !COLUMN_FORMATS.contains(&format.text()) {
        errors.invalid(&format, format!("must be one of {}", COLUMN_FORMATS.join(",")));
    }
    // Upstream names the field as it was called before v1.
    let name = column.path().child("JSONPath");
    let path = At::new(&column["jsonPath"], name.as_str());
    if path.text().is_empty() {
        errors.required(&path, "");
    } else {
        simple_path(errors, &path);
    }
}

fn selectable(errors: &mut FieldErrors, fields: &At, schema: &Value, unchanged: bool) {
    let mut seen: Vec<String> = Vec::new();
    for field in fields.items() {
        let path = field.field("jsonPath");
        let text = path.text().to_owned();
        if text.is_empty() {
            errors.required(&path, "");
            continue;
        }
        let found = match follow(&text, schema) {
            Ok(found) => found,
            Err(why) => {
                errors.invalid(&path, format!("is an invalid path: {why}"));
                continue;
            }
        };
        if text.trim_start_matches('.').split('.').next() == Some("metadata") {
            errors.invalid(&path, "must not point to fields in metadata");
        }
        if !matches!(found["type"].text(), "string" | "boolean" | "integer") {
            errors.invalid(&path, "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.");
        }
        if seen.contains(&text) {
            errors.duplicate(&path);
        } else {
            seen.push(text);
        }
    }
    if seen.len() > MOST_SELECTABLE_FIELDS && !unchanged {
        errors.too_many(fields, seen.len(), MOST_SELECTABLE_FIELDS);
    }
}

/// The schema at a path of names.
fn follow<'a>(path: &str, schema: &'a Value) -> Result<&'a Value, String> {
    let Some(rest) = path.strip_prefix('.') else { return Err(format!("expected [ or . but got: {path}")) };
    let mut at = schema;
    for name in rest.split('.') {
        let plain = name.trim_matches(|c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-');
        if name.is_empty() || !plain.is_empty() {
            return Err(format!("does not refer to a valid field: {name}"));
        }
        let known = &at["properties"][name];
        let known = if known.is_null() && at["additionalProperties"].is_object() { &at["additionalProperties"] } else { known };
        if known.is_null() {
            return Err("does not refer to a valid field".into());
        }
        at = known;
    }
    Ok(at)
}
