//! The v2 document in protobuf, as kubectl asks for it: gnostic's OpenAPIv2 Document.
//!
//! It carries what its readers use, the definitions; who wants the operations asks for JSON.
//! <https://github.com/google/gnostic/blob/main/openapiv2/OpenAPIv2.proto>
use serde_json::Value;

/// Its media type in an answer (requests may write `@` for the dot before the version).
pub const MEDIA_TYPE: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// Encodes a v2 document.
pub fn encode(document: &Value) -> Vec<u8> {
    let mut out = Message::default();
    out.text(1, document["swagger"].as_str());
    let mut info = Message::default();
    info.text(1, document["info"]["title"].as_str());
    info.text(2, document["info"]["version"].as_str());
    out.message(2, &info);
    out.message(9, &named_schemas(&document["definitions"]));
    out.0
}

/// `Definitions` and `Properties`: named schemas, field 1 of both.
fn named_schemas(schemas: &Value) -> Message {
    let mut out = Message::default();
    for (name, value) in schemas.as_object().into_iter().flatten() {
        let mut named = Message::default();
        named.text(1, Some(name));
        named.message(2, &schema(value));
        out.message(1, &named);
    }
    out
}

fn schema(value: &Value) -> Message {
    let mut out = Message::default();
    out.text(1, value["$ref"].as_str());
    out.text(2, value["format"].as_str());
    out.text(3, value["title"].as_str());
    out.text(4, value["description"].as_str());
    for required in value["required"].as_array().into_iter().flatten() {
        out.text(19, required.as_str());
    }
    match &value["additionalProperties"] {
        Value::Bool(allowed) => {
            let mut item = Message::default();
            item.number(2, u64::from(*allowed));
            out.message(21, &item);
        }
        Value::Null => {}
        inner => {
            let mut item = Message::default();
            item.message(1, &schema(inner));
            out.message(21, &item);
        }
    }
    if let Some(kind) = value["type"].as_str() {
        let mut item = Message::default();
        item.text(1, Some(kind));
        out.message(22, &item);
    }
    if value["items"].is_object() {
        let mut item = Message::default();
        item.message(1, &schema(&value["items"]));
        out.message(23, &item);
    }
    if value["properties"].is_object() {
        out.message(25, &named_schemas(&value["properties"]));
    }
    for (name, extension) in value.as_object().into_iter().flatten().filter(|(name, _)| name.starts_with("x-")) {
        // JSON is YAML, which is how extensions travel.
        let mut any = Message::default();
        any.text(2, Some(&extension.to_string()));
        let mut named = Message::default();
        named.text(1, Some(name));
        named.message(2, &any);
        out.message(31, &named);
    }
    out
}

/// A message being written.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value as u8 & 0x7f) | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
    fn number(&mut self, tag: u64, value: u64) {
        self.varint(tag << 3);
        self.varint(value);
    }
    fn bytes(&mut self, tag: u64, bytes: &[u8]) {
        self.varint(tag << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }
    fn text(&mut self, tag: u64, text: Option<&str>) {
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            self.bytes(tag, text.as_bytes());
        }
    }
    fn message(&mut self, tag: u64, message: &Self) {
        self.bytes(tag, &message.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_have_gnostics_numbers() {
        let document = json!({ "swagger": "2.0", "info": { "title": "t", "version": "v" }, "definitions": { "d": { "type": "object", "x-k": [1] } } });
        let extension = [&[10, 3][..], b"x-k", &[18, 5, 18, 3], b"[1]"].concat();
        let schema = [&[0xb2, 1, 8, 10, 6][..], b"object", &[0xfa, 1, extension.len() as u8], &extension].concat();
        let named = [&[10, 1][..], b"d", &[18, schema.len() as u8], &schema].concat();
        let definitions = [&[10, named.len() as u8][..], &named].concat();
        let want = [&[10, 3][..], b"2.0", &[18, 6, 10, 1], b"t", &[18, 1], b"v", &[74, definitions.len() as u8], &definitions].concat();
        assert_eq!(encode(&document), want);
    }
}
