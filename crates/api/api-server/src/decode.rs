//! Decoding what a client sends: JSON, YAML or protobuf, of the right kind, with unknown and repeated fields found.
use crate::context::Context;
use crate::kinds::Kind;
use crate::{errors, negotiate};
use api_meta::{FieldError, FieldPath, Status, join_api_version};
use api_schema::Schema;
use bytes::Bytes;
use serde_json::Value;

/// How deeply an object may be nested. Less than what the decoder of stored objects takes, as managed
/// fields nest a little deeper than the fields they name.
const DEPTH_LIMIT: usize = 100;

/// What to do about unknown and repeated fields (`fieldValidation`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldValidation {
    Ignore,
    Warn,
    Strict,
}

impl FieldValidation {
    pub fn of(context: &Context) -> Result<Self, Status> {
        match context.query.value("fieldValidation") {
            None | Some("Warn") => Ok(Self::Warn),
            Some("Ignore") => Ok(Self::Ignore),
            Some("Strict") => Ok(Self::Strict),
            Some(other) => {
                let error = FieldError::not_supported(&FieldPath::new("fieldValidation"), other, &["Ignore", "Strict", "Warn"]);
                Err(errors::options(context.options_kind(), error))
            }
        }
    }

    /// Refuses the problems, warns of them or lets them pass.
    pub fn judge(self, context: &Context, kind: &Kind, problems: Vec<String>) -> Result<(), Status> {
        if problems.is_empty() {
            return Ok(());
        }
        match self {
            Self::Ignore => {}
            Self::Warn => problems.into_iter().for_each(|problem| context.warn(problem)),
            Self::Strict => return Err(unfit(kind, &format!("strict decoding error: {}", problems.join(", ")))),
        }
        Ok(())
    }
}

/// Reads a body as JSON text, whatever it was sent as.
pub fn json_text(context: &Context, body: &Bytes) -> Result<Bytes, Status> {
    negotiate::body_as_json(context.headers, body)
}

fn not_json(error: &serde_json::Error) -> Status {
    // Go's words where it stops for the same reason.
    let why = if error.is_eof() { "unexpected end of JSON input".to_owned() } else { error.to_string() };
    Status::bad_request(format!("couldn't get version/kind; json parse error: {why}"))
}

fn expect_object(value: Value) -> Result<Value, Status> {
    if value.is_object() {
        return Ok(value);
    }
    Err(Status::bad_request(format!("couldn't get version/kind; json parse error: {}", not_an_object(&value))))
}

/// Go's words for a value where an object belongs.
pub fn not_an_object(value: &Value) -> String {
    format!("json: cannot unmarshal {} into Go value of type struct {{ APIVersion string; Kind string }}", json_type(value))
}

/// Decodes a whole object of `kind`.
pub fn object(context: &Context, kind: &Kind, text: &[u8], validation: FieldValidation) -> Result<Value, Status> {
    let (names, schema) = (kind.names(), kind.schema());
    let decoded = api_schema::decode(text, &schema).map_err(|error| not_json(&error))?;
    let mut value = expect_object(decoded.value)?;
    check_kind(&mut value, kind)?;
    bounded(&value).map_err(Status::bad_request)?;
    api_schema::decode_types(&mut value, &schema, &names.kind, &names.version)?;
    validation.judge(context, kind, decoded.strict)?;
    Ok(value)
}

/// What was sent is no object of this kind.
pub fn unfit(kind: &Kind, why: &str) -> Status {
    let names = kind.names();
    Status::bad_request(format!("{} in version {:?} cannot be handled as a {}: {why}", names.kind, names.version, names.kind))
}

/// Decodes an object that is not of the resource's own kind: a subresource's, or options. `text` may lack its kind.
pub fn foreign(text: &[u8], (group, version, kind): (&str, &str, &str)) -> Result<Value, Status> {
    let schema = foreign_schema(group, version, kind)?;
    let decoded = api_schema::decode(text, &schema).map_err(|error| not_json(&error))?;
    let mut value = expect_object(decoded.value)?;
    let (sent_version, sent_kind) = (type_field(&value, "apiVersion")?, type_field(&value, "kind")?);
    let own_version = join_api_version(group, version);
    if !sent_kind.is_empty() && sent_kind != kind {
        return Err(other_kind(sent_kind, version, kind));
    }
    if kind != DELETE_OPTIONS && !sent_version.is_empty() && sent_version != own_version {
        return Err(other_version(sent_version, &own_version));
    }
    bounded(&value).map_err(Status::bad_request)?;
    api_schema::decode_types(&mut value, &schema, kind, version)?;
    Ok(value)
}

/// The options of deletes are of every group's every version.
pub const DELETE_OPTIONS: &str = "DeleteOptions";

pub fn foreign_schema(group: &str, version: &str, kind: &str) -> Result<api_schema::SchemaRef, Status> {
    if kind == DELETE_OPTIONS {
        return Ok(api_schema::SchemaRef::builtin("io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions"));
    }
    api_schema::builtin::for_kind(group, version, kind).ok_or_else(|| Status::internal(format!("no schema of {kind} in {version}")))
}

/// Checks types and prunes what the schema doesn't know; tells what it pruned. The error is Go's, bare.
pub fn checked(schema: &Schema, value: &mut Value, problems: &mut Vec<String>) -> Result<(), String> {
    bounded(value)?;
    problems.extend(api_schema::prune(value, schema));
    api_schema::check_types(value, schema)
}

/// The body's apiVersion and kind: absent means the resource's own, another is refused.
pub fn check_kind(value: &mut Value, kind: &Kind) -> Result<(), Status> {
    let names = kind.names();
    let (own_version, own_kind) = (names.api_version(), names.kind.as_ref());
    match type_field(value, "kind")? {
        "" => value["kind"] = own_kind.into(),
        sent if sent != own_kind => return Err(other_kind(sent, &names.version, own_kind)),
        _ => {}
    }
    match type_field(value, "apiVersion")? {
        "" => value["apiVersion"] = own_version.into(),
        sent if sent != own_version => return Err(other_version(sent, &own_version)),
        _ => {}
    }
    Ok(())
}

fn type_field<'a>(value: &'a Value, field: &str) -> Result<&'a str, Status> {
    match &value[field] {
        Value::Null => Ok(""),
        Value::String(text) => Ok(text),
        other => Err(Status::bad_request(format!(
            "couldn't get version/kind; json parse error: json: cannot unmarshal {} into Go struct field .{field} of type string",
            json_type(other)
        ))),
    }
}

fn other_version(sent: &str, own: &str) -> Status {
    Status::bad_request(format!("the API version in the data ({sent}) does not match the expected API version ({own})"))
}

fn other_kind(sent: &str, version: &str, own: &str) -> Status {
    Status::bad_request(format!(
        "{sent} in version {version:?} cannot be handled as a {own}: kind in the data ({sent}) does not match the expected kind ({own})"
    ))
}

/// INVARIANT: nothing deeper than `DEPTH_LIMIT` is stored, so that whatever is stored can be decoded.
pub fn bounded(value: &Value) -> Result<(), String> {
    fn fits(value: &Value, left: usize) -> bool {
        match value {
            Value::Array(items) => left > 0 && items.iter().all(|item| fits(item, left - 1)),
            Value::Object(fields) => left > 0 && fields.values().all(|field| fits(field, left - 1)),
            _ => true,
        }
    }
    // What the server itself keeps in an object is as deep as what it is about, and a little deeper.
    let own = |key: &str, field: &Value| match field {
        Value::Object(metadata) if key == "metadata" => {
            metadata.iter().all(|(key, field)| fits(field, if key == "managedFields" { DEPTH_LIMIT + 8 } else { DEPTH_LIMIT - 2 }))
        }
        _ => fits(field, DEPTH_LIMIT - 1),
    };
    let all_fit = value.as_object().is_none_or(|object| object.iter().all(|(key, field)| own(key, field)));
    if all_fit { Ok(()) } else { Err(format!("the object is nested too deeply: limit is {DEPTH_LIMIT}")) }
}

fn json_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
