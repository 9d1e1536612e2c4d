//! Kubernetes' protobuf form of built-in kinds: read into the JSON form everything else works with, and written from it.
//!
//! The wire is self-describing enough with a table of field numbers (`data/kubernetes-protobuf-fields.txt`):
//! an envelope (`k8s\0` and runtime.Unknown) names the kind, the table gives each field its JSON name.
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Number, Value};
use table::{Field, FieldKind, Form, Message, Shape, TABLE};

mod table;
mod write;

pub use write::{write, write_event};

/// What protobuf bodies start with.
pub const MAGIC: &[u8] = b"k8s\0";

const DEPTH_LIMIT: usize = 64;

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ProtobufError {
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    NoPrefix,
    #[error("unexpected EOF")]
    Truncated,
    #[error("proto: illegal wireType {0}")]
    WireType(u64),
    #[error("proto: wrong wireType = {wire} for field {field}")]
    FieldType { field: String, wire: u64 },
    #[error("no kind {kind:?} is registered for version {version:?}")]
    UnknownKind { version: String, kind: String },
    #[error("proto: field {0} is no UTF-8 text")]
    Text(String),
    #[error("exceeded max depth")]
    TooDeep,
}

/// Reads a body: the object in JSON form, with its apiVersion and kind.
pub fn read(body: &[u8]) -> Result<Value, ProtobufError> {
    let envelope = body.strip_prefix(MAGIC).ok_or(ProtobufError::NoPrefix)?;
    let (mut type_meta, mut raw): (&[u8], &[u8]) = (&[], &[]);
    for item in Items(envelope) {
        match item? {
            (1, Wire::Bytes(bytes)) => type_meta = bytes,
            (2, Wire::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let (mut version, mut kind) = (String::new(), String::new());
    for item in Items(type_meta) {
        match item? {
            (1, Wire::Bytes(bytes)) => version = text("apiVersion", bytes)?,
            (2, Wire::Bytes(bytes)) => kind = text("kind", bytes)?,
            _ => {}
        }
    }
    let message = TABLE.of_kind(&version, &kind).ok_or_else(|| ProtobufError::UnknownKind { version: version.clone(), kind: kind.clone() })?;
    let mut object = Map::new();
    fill(&mut object, TABLE.get(message), raw, 0)?;
    object.insert("apiVersion".into(), version.into());
    object.insert("kind".into(), kind.into());
    Ok(Value::Object(object))
}

fn fill(object: &mut Map<String, Value>, message: &Message, bytes: &[u8], depth: usize) -> Result<(), ProtobufError> {
    if depth > DEPTH_LIMIT {
        return Err(ProtobufError::TooDeep);
    }
    for item in Items(bytes) {
        let (tag, wire) = item?;
        // A field the table doesn't know is from a newer client: dropped, as upstream drops it.
        let Some(field) = message.field(tag) else { continue };
        match field.shape {
            Shape::One => match field.kind {
                FieldKind::Message(inner) if field.name.is_empty() => fill(object, TABLE.get(inner), wire.bytes(field)?, depth + 1)?,
                _ => {
                    let value = value(field, &wire, depth)?;
                    if field.zero_counts || !is_zero(field, &value) {
                        object.insert(field.name.clone(), value);
                    }
                }
            },
            Shape::List => {
                let entry = object.entry(field.name.clone()).or_insert_with(|| Value::Array(Vec::new()));
                if let Value::Array(list) = entry {
                    match (&field.kind, &wire) {
                        (FieldKind::Integer, Wire::Bytes(packed)) => {
                            let mut rest = *packed;
                            while !rest.is_empty() {
                                list.push(integer(varint(&mut rest)?));
                            }
                        }
                        _ => list.push(value(field, &wire, depth)?),
                    }
                }
            }
            Shape::Map => {
                let (mut key, mut content) = (String::new(), None);
                for entry in Items(wire.bytes(field)?) {
                    match entry? {
                        (1, Wire::Bytes(bytes)) => key = text(&field.name, bytes)?,
                        (2, wire) => content = Some(value(field, &wire, depth)?),
                        _ => {}
                    }
                }
                let content = match (content, field.kind) {
                    (Some(content), _) => content,
                    (None, FieldKind::Text | FieldKind::Bytes) => Value::String(String::new()),
                    (None, kind) => empty(kind),
                };
                if let Value::Object(map) = object.entry(field.name.clone()).or_insert_with(|| Value::Object(Map::new())) {
                    map.insert(key, content);
                }
            }
        }
    }
    Ok(())
}

/// Whether a plain field holds Go's zero value, which its JSON form leaves out.
fn is_zero(field: &Field, value: &Value) -> bool {
    match (field.kind, value) {
        (FieldKind::Text | FieldKind::Bytes, Value::String(text)) => text.is_empty(),
        (FieldKind::Integer, value) => value.as_i64() == Some(0),
        (FieldKind::Boolean, value) => value == &Value::Bool(false),
        // A zero Time, and the one IntOrString that is no pointer in Go.
        (FieldKind::Message(_), value) => value.is_null() || (field.name == "targetPort" && value.as_i64() == Some(0)),
        _ => false,
    }
}

fn empty(kind: FieldKind) -> Value {
    match kind {
        FieldKind::Message(id) if TABLE.get(id).form == Form::Quantity => "0".into(),
        FieldKind::Message(_) => Value::Object(Map::new()),
        _ => Value::Null,
    }
}

fn value(field: &Field, wire: &Wire, depth: usize) -> Result<Value, ProtobufError> {
    Ok(match field.kind {
        FieldKind::Text => text(&field.name, wire.bytes(field)?)?.into(),
        FieldKind::Bytes => STANDARD.encode(wire.bytes(field)?).into(),
        FieldKind::Integer => integer(wire.varint(field)?),
        FieldKind::Boolean => (wire.varint(field)? != 0).into(),
        FieldKind::Double => match wire {
            Wire::Fixed64(bits) => Number::from_f64(f64::from_bits(*bits)).map_or(Value::Null, Value::Number),
            Wire::Fixed32(bits) => Number::from_f64(f64::from(f32::from_bits(*bits))).map_or(Value::Null, Value::Number),
            other => return Err(other.mismatch(field)),
        },
        FieldKind::Message(id) => message(TABLE.get(id), wire.bytes(field)?, depth + 1)?,
    })
}

/// A message's JSON form; some are written in JSON as something else than an object.
fn message(message: &Message, bytes: &[u8], depth: usize) -> Result<Value, ProtobufError> {
    let mut fields = Map::new();
    fill(&mut fields, message, bytes, depth)?;
    let number = |key: &str| fields.get(key).and_then(Value::as_i64).unwrap_or(0);
    let list = |fields: &mut Map<String, Value>, key: &str| fields.remove(key).unwrap_or_else(|| Value::Array(Vec::new()));
    let empty = fields.is_empty();
    Ok(match message.form {
        Form::Object => Value::Object(fields),
        Form::Quantity => fields.remove("string").unwrap_or_else(|| "0".into()),
        Form::IntOrString if number("type") == 1 => fields.remove("strVal").unwrap_or_else(|| "".into()),
        Form::IntOrString => number("intVal").into(),
        Form::Texts => list(&mut fields, "items"),
        Form::Time | Form::MicroTime if empty => Value::Null,
        Form::Time | Form::MicroTime => time(number("seconds"), number("nanos"), message.form == Form::MicroTime),
        Form::SchemaOrList => fields.remove("schema").unwrap_or_else(|| list(&mut fields, "jSonSchemas")),
        Form::SchemaOrBool => fields.remove("schema").unwrap_or_else(|| fields.get("allows").is_some_and(|allows| *allows == true).into()),
        Form::SchemaOrTexts => fields.remove("schema").unwrap_or_else(|| list(&mut fields, "property")),
        // Raw JSON, carried as bytes.
        Form::Raw => {
            let raw = fields.remove("raw").and_then(|raw| STANDARD.decode(raw.as_str()?).ok()).unwrap_or_default();
            serde_json::from_slice(&raw).unwrap_or(Value::Null)
        }
    })
}

fn time(seconds: i64, nanos: i64, micro: bool) -> Value {
    let nanos = i32::try_from(nanos).unwrap_or(0);
    match jiff::Timestamp::new(seconds, if micro { nanos } else { 0 }) {
        Ok(at) if micro => at.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string().into(),
        Ok(at) => at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into(),
        Err(_) => Value::Null,
    }
}

fn text(field: &str, bytes: &[u8]) -> Result<String, ProtobufError> {
    String::from_utf8(bytes.to_vec()).map_err(|_| ProtobufError::Text(field.to_owned()))
}

fn integer(bits: u64) -> Value {
    // Two's complement on the wire, negative int32 included.
    (bits as i64).into()
}

enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32(u32),
}

impl<'a> Wire<'a> {
    fn mismatch(&self, field: &Field) -> ProtobufError {
        let wire = match self {
            Self::Varint(_) => 0,
            Self::Fixed64(_) => 1,
            Self::Bytes(_) => 2,
            Self::Fixed32(_) => 5,
        };
        ProtobufError::FieldType { field: field.name.clone(), wire }
    }
    fn bytes(&self, field: &Field) -> Result<&'a [u8], ProtobufError> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            other => Err(other.mismatch(field)),
        }
    }
    fn varint(&self, field: &Field) -> Result<u64, ProtobufError> {
        match self {
            Self::Varint(bits) => Ok(*bits),
            other => Err(other.mismatch(field)),
        }
    }
}

/// The fields of a message, in wire order.
struct Items<'a>(&'a [u8]);

impl<'a> Iterator for Items<'a> {
    type Item = Result<(u64, Wire<'a>), ProtobufError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let item = next_field(&mut self.0);
        if item.is_err() {
            self.0 = &[];
        }
        Some(item)
    }
}

fn next_field<'a>(rest: &mut &'a [u8]) -> Result<(u64, Wire<'a>), ProtobufError> {
    let key = varint(rest)?;
    let wire = match key & 7 {
        0 => Wire::Varint(varint(rest)?),
        1 => Wire::Fixed64(u64::from_le_bytes(take(rest, 8)?.try_into().map_err(|_| ProtobufError::Truncated)?)),
        2 => {
            let length = usize::try_from(varint(rest)?).map_err(|_| ProtobufError::Truncated)?;
            Wire::Bytes(take(rest, length)?)
        }
        5 => Wire::Fixed32(u32::from_le_bytes(take(rest, 4)?.try_into().map_err(|_| ProtobufError::Truncated)?)),
        other => return Err(ProtobufError::WireType(other)),
    };
    Ok((key >> 3, wire))
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], ProtobufError> {
    let (taken, left) = rest.split_at_checked(length).ok_or(ProtobufError::Truncated)?;
    *rest = left;
    Ok(taken)
}

fn varint(rest: &mut &[u8]) -> Result<u64, ProtobufError> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let [byte, left @ ..] = *rest else { return Err(ProtobufError::Truncated) };
        *rest = left;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(ProtobufError::Truncated)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A length-delimited field.
    fn bytes(tag: u64, content: &[u8]) -> Vec<u8> {
        [&[(tag << 3 | 2) as u8, content.len() as u8][..], content].concat()
    }
    fn number(tag: u64, value: u8) -> Vec<u8> {
        vec![(tag << 3) as u8, value]
    }
    fn body(version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
        let type_meta = [bytes(1, version.as_bytes()), bytes(2, kind.as_bytes())].concat();
        [MAGIC.to_vec(), bytes(1, &type_meta), bytes(2, raw)].concat()
    }

    #[test]
    fn fields_get_their_json_names_and_forms() {
        let label = bytes(11, &[bytes(1, b"app"), bytes(2, b"web")].concat());
        let metadata = bytes(1, &[bytes(1, b"web"), bytes(2, b""), number(7, 0), label, bytes(8, b"")].concat());
        let port = bytes(1, &[bytes(1, b"http"), bytes(2, b"TCP"), number(3, 80), bytes(4, &[number(1, 1), bytes(3, b"web")].concat())].concat());
        let service = read(&body("v1", "Service", &[metadata, bytes(2, &port)].concat())).unwrap();
        assert_eq!(
            service,
            json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web", "labels": { "app": "web" } },
                "spec": { "ports": [{ "name": "http", "protocol": "TCP", "port": 80, "targetPort": "web" }] } })
        );
    }

    #[test]
    fn embedded_messages_are_inlined_and_bytes_encoded() {
        let probe = bytes(1, &bytes(2, &bytes(1, b"/ok")));
        let container = bytes(2, &[bytes(1, b"c"), bytes(10, &probe)].concat());
        let pod = read(&body("v1", "Pod", &bytes(2, &container))).unwrap();
        assert_eq!(pod["spec"]["containers"][0], json!({ "name": "c", "livenessProbe": { "httpGet": { "path": "/ok" } } }));
        let secret = read(&body("v1", "Secret", &bytes(2, &[bytes(1, b"k"), bytes(2, b"\x01\x02")].concat()))).unwrap();
        assert_eq!(secret["data"], json!({ "k": "AQI=" }));
    }

    #[test]
    fn nonsense_is_refused_without_a_panic() {
        assert_eq!(read(b"{}"), Err(ProtobufError::NoPrefix));
        assert!(matches!(read(&body("v1", "Nothing", b"")), Err(ProtobufError::UnknownKind { .. })));
        let whole = body("apps/v1", "Deployment", &bytes(1, &bytes(1, b"name")));
        for end in 4..whole.len() {
            // Any prefix is either short or another message; never a panic.
            let _ = read(&whole[..end]);
        }
        assert_eq!(read(&body("v1", "Pod", &[0x0b])), Err(ProtobufError::WireType(3)));
    }
}
