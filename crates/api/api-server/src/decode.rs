//! Decoding what a client sends: JSON or YAML, of the right kind, with unknown and repeated fields found.
use crate::context::Context;
use crate::kinds::Kind;
use crate::negotiate;
use api_meta::Status;
use bytes::Bytes;
use serde_json::Value;

/// The largest body accepted; upstream's limit.
pub const BODY_LIMIT: usize = 3 << 20;

/// What to do about unknown and repeated fields (`fieldValidation`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldValidation {
    Ignore,
    Warn,
    Strict,
}

impl FieldValidation {
    pub fn of(context: &Context) -> Result<Self, Status> {
        match context.query.get("fieldValidation") {
            None | Some("Warn") => Ok(Self::Warn),
            Some("Ignore") => Ok(Self::Ignore),
            Some("Strict") => Ok(Self::Strict),
            Some(other) => Err(Status::new(
                422,
                "Invalid",
                format!(
                    "CreateOptions.meta.k8s.io \"\" is invalid: fieldValidation: Unsupported value: {other:?}: supported values: \"Ignore\", \"Strict\", \"Warn\""
                ),
            )),
        }
    }

    /// Refuses the problems, warns of them or lets them pass.
    pub fn judge(self, context: &Context, problems: Vec<String>) -> Result<(), Status> {
        if problems.is_empty() {
            return Ok(());
        }
        match self {
            Self::Ignore => {}
            Self::Warn => problems.into_iter().for_each(|problem| context.warn(problem)),
            Self::Strict => return Err(Status::bad_request(format!("strict decoding error: {}", problems.join(", ")))),
        }
        Ok(())
    }
}

/// Reads a body as JSON text, whatever it was sent as.
pub fn json_text(context: &Context, body: &Bytes) -> Result<Bytes, Status> {
    negotiate::body_as_json(context.headers, body)
}

/// Parses JSON text into an object of no particular kind.
pub fn parse(text: &[u8]) -> Result<Value, Status> {
    let value: Value = serde_json::from_slice(text).map_err(|error| not_json(text, &error))?;
    expect_object(value)
}

fn not_json(text: &[u8], error: &serde_json::Error) -> Status {
    if text.iter().all(u8::is_ascii_whitespace) {
        return Status::bad_request("unexpected end of JSON input");
    }
    Status::bad_request(format!("couldn't get version/kind; json parse error: {error}"))
}

fn expect_object(value: Value) -> Result<Value, Status> {
    if value.is_object() {
        return Ok(value);
    }
    let message = format!("couldn't get version/kind; json parse error: json: cannot unmarshal {} into Go value of type struct", json_type(&value));
    Err(Status::bad_request(message))
}

/// Decodes a whole object of `kind`.
pub fn object(context: &Context, kind: &Kind, text: &[u8], validation: FieldValidation) -> Result<Value, Status> {
    let (names, schema) = (kind.names(), kind.schema());
    let decoded = api_schema::decode(text, &schema).map_err(|error| not_json(text, &error))?;
    let mut value = expect_object(decoded.value)?;
    check_kind(&mut value, kind)?;
    api_schema::decode_types(&mut value, &schema, &names.kind, &names.version)?;
    validation.judge(context, decoded.strict)?;
    Ok(value)
}

/// Checks types and prunes what the schema doesn't know; tells what it pruned.
pub fn checked(kind: &Kind, value: &mut Value, problems: &mut Vec<String>) -> Result<(), Status> {
    let names = kind.names();
    let schema = kind.schema();
    problems.extend(api_schema::prune(value, &schema));
    api_schema::decode_types(value, &schema, &names.kind, &names.version)?;
    Ok(())
}

/// The body's apiVersion and kind: absent means the resource's own, another is refused.
pub fn check_kind(value: &mut Value, kind: &Kind) -> Result<(), Status> {
    let names = kind.names();
    let (own_version, own_kind) = (names.api_version(), names.kind.as_ref());
    match value["apiVersion"].as_str() {
        None | Some("") => value["apiVersion"] = own_version.clone().into(),
        Some(sent) if sent != own_version => {
            return Err(Status::bad_request(format!("the API version in the data ({sent}) does not match the expected API version ({own_version})")));
        }
        _ => {}
    }
    match value["kind"].as_str() {
        None | Some("") => value["kind"] = own_kind.into(),
        Some(sent) if sent != own_kind => {
            return Err(Status::bad_request(format!(
                "{sent} in version {:?} cannot be handled as a {own_kind}: kind in the data ({sent}) does not match the expected kind ({own_kind})",
                &*names.version
            )));
        }
        _ => {}
    }
    Ok(())
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
