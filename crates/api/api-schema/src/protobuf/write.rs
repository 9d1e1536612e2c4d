//! The JSON form of built-in kinds written as protobuf, as Go's clients read it.
//!
//! What JSON leaves out is left out: Go writes zero there, which its readers can't tell apart.
use super::MAGIC;
use super::table::{Field, FieldKind, Form, Message, Shape, TABLE};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// The tags of runtime.Unknown.
const TYPE_META: u64 = 1;
const RAW: u64 = 2;
const CONTENT_ENCODING: u64 = 3;
const CONTENT_TYPE: u64 = 4;
/// Every list is its metadata and its items.
const LIST_METADATA: u64 = 1;
const LIST_ITEMS: u64 = 2;
const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";

/// An object or a list in its envelope; `None` if its kind has no protobuf form, or it holds a field whose number is not known.
pub fn write(object: &Value) -> Option<Vec<u8>> {
    let mut writer = Writer::default();
    writer.enveloped(object)?;
    (!writer.lost).then_some(writer.out)
}

/// A watch event as one frame of a stream: its length, then the event, whose object is in an envelope of its own.
/// What has no number is left out of it: a stream can't change its form.
pub fn write_event(kind: &str, object: &Value) -> Option<Vec<u8>> {
    let mut inner = Writer::default();
    inner.enveloped(object)?;
    let mut writer = Writer { out: vec![0; 4], lost: false };
    writer.bytes(1, kind.as_bytes());
    writer.nested(2, |writer| writer.bytes(1, &inner.out));
    let length = u32::try_from(writer.out.len() - 4).ok()?;
    writer.out[..4].copy_from_slice(&length.to_be_bytes());
    Some(writer.out)
}

#[derive(Default)]
struct Writer {
    out: Vec<u8>,
    /// Whether something was left out because its number is not known.
    lost: bool,
}

impl Writer {
    fn enveloped(&mut self, object: &Value) -> Option<()> {
        let (api_version, kind) = (object["apiVersion"].as_str()?, object["kind"].as_str()?);
        let own = TABLE.of_kind(api_version, kind);
        let element = if own.is_none() { kind.strip_suffix("List").and_then(|element| TABLE.of_kind(api_version, element)) } else { None };
        let message = own.or(element)?;
        self.out.extend_from_slice(MAGIC);
        self.nested(TYPE_META, |writer| {
            writer.bytes(1, api_version.as_bytes());
            writer.bytes(2, kind.as_bytes());
        });
        self.nested(RAW, |writer| match element {
            None => writer.object(TABLE.get(message), object),
            Some(element) => writer.list(TABLE.get(element), object),
        });
        // Go's writers always say these.
        self.bytes(CONTENT_ENCODING, b"");
        self.bytes(CONTENT_TYPE, b"");
        Some(())
    }

    fn list(&mut self, element: &Message, list: &Value) {
        let metadata = TABLE.find(LIST_META).expect("the table has the metadata of lists");
        self.nested(LIST_METADATA, |writer| writer.object(TABLE.get(metadata), &list["metadata"]));
        for item in list["items"].as_array().into_iter().flatten() {
            self.nested(LIST_ITEMS, |writer| writer.object(element, item));
        }
    }

    fn object(&mut self, message: &Message, object: &Value) {
        let written = self.fields(message, object);
        // What a thing is called is told by its envelope, or not at all.
        let named = ["apiVersion", "kind"].into_iter().filter(|key| object.get(key).is_some() && message.fields.iter().all(|field| field.name != **key));
        self.lost |= written + named.count() < object.as_object().map_or(0, serde_json::Map::len);
    }

    /// Gives how many of the object's fields the message knows.
    fn fields(&mut self, message: &Message, object: &Value) -> usize {
        let mut known = 0;
        for field in &message.fields {
            if field.name.is_empty() {
                let FieldKind::Message(inner) = field.kind else { continue };
                known += self.embedded(field.tag, TABLE.get(inner), object);
                continue;
            }
            let Some(value) = object.get(field.name.as_str()) else { continue };
            known += 1;
            match (field.shape, value) {
                (_, Value::Null) => {}
                (Shape::One, value) => self.one(field, field.tag, value),
                (Shape::List, Value::Array(items)) => items.iter().for_each(|item| self.one(field, field.tag, item)),
                (Shape::Map, Value::Object(entries)) => {
                    for (key, value) in entries {
                        self.nested(field.tag, |writer| {
                            writer.bytes(1, key.as_bytes());
                            writer.one(field, 2, value);
                        });
                    }
                }
                _ => self.lost = true,
            }
        }
        known
    }

    /// A message whose fields stand among its parent's in JSON; left out when none of them is there.
    fn embedded(&mut self, tag: u64, message: &Message, object: &Value) -> usize {
        let start = self.out.len();
        let mut known = 0;
        self.nested(tag, |writer| known = writer.fields(message, object));
        if known == 0 {
            self.out.truncate(start);
        }
        known
    }

    fn one(&mut self, field: &Field, tag: u64, value: &Value) {
        match (field.kind, value) {
            (FieldKind::Text, Value::String(text)) => self.bytes(tag, text.as_bytes()),
            (FieldKind::Text, Value::Null) => {}
            (FieldKind::Text, other) => self.bytes(tag, other.to_string().as_bytes()),
            (FieldKind::Integer, value) => self.integer(tag, value.as_i64().or_else(|| value.as_f64().map(|number| number as i64)).unwrap_or_default()),
            (FieldKind::Boolean, value) => self.integer(tag, i64::from(value.as_bool().unwrap_or_default())),
            (FieldKind::Bytes, value) => self.bytes(tag, &STANDARD.decode(value.as_str().unwrap_or_default()).unwrap_or_default()),
            (FieldKind::Double, value) => {
                varint(&mut self.out, tag << 3 | 1);
                self.out.extend_from_slice(&value.as_f64().unwrap_or_default().to_le_bytes());
            }
            (FieldKind::Message(inner), value) => self.nested(tag, |writer| writer.message(TABLE.get(inner), value)),
        }
    }

    fn message(&mut self, message: &Message, value: &Value) {
        match (message.form, value) {
            (Form::Object, value) => self.object(message, value),
            (Form::Quantity, Value::String(text)) => self.bytes(1, text.as_bytes()),
            (Form::Quantity, other) => self.bytes(1, other.to_string().as_bytes()),
            (Form::IntOrString, Value::String(text)) => {
                self.integer(1, 1);
                self.integer(2, 0);
                self.bytes(3, text.as_bytes());
            }
            (Form::IntOrString, number) => {
                self.integer(1, 0);
                self.integer(2, number.as_i64().unwrap_or_default());
                self.bytes(3, b"");
            }
            (Form::Time | Form::MicroTime, value) => {
                let Some(at) = value.as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok()) else { return };
                // Seconds since 1970 and nanoseconds on top of them, also before it.
                let nanos = at.as_nanosecond().rem_euclid(1_000_000_000);
                self.integer(1, i64::try_from((at.as_nanosecond() - nanos) / 1_000_000_000).unwrap_or_default());
                self.integer(2, if message.form == Form::MicroTime { i64::try_from(nanos).unwrap_or_default() } else { 0 });
            }
            (Form::Texts, value) => value.as_array().into_iter().flatten().filter_map(Value::as_str).for_each(|text| self.bytes(1, text.as_bytes())),
            (Form::Raw, value) => self.bytes(1, value.to_string().as_bytes()),
            (Form::SchemaOrList | Form::SchemaOrTexts, Value::Array(_)) => self.all(message, 2, value),
            (Form::SchemaOrList | Form::SchemaOrTexts, schema) => self.all(message, 1, schema),
            (Form::SchemaOrBool, Value::Bool(allows)) => self.integer(1, i64::from(*allows)),
            (Form::SchemaOrBool, schema) => {
                self.integer(1, 1);
                self.all(message, 2, schema);
            }
        }
    }

    /// The field of this tag, with one value or with all of a list.
    fn all(&mut self, message: &Message, tag: u64, value: &Value) {
        let Some(field) = message.field(tag) else { return };
        match value {
            Value::Array(items) => items.iter().for_each(|item| self.one(field, tag, item)),
            value => self.one(field, tag, value),
        }
    }

    /// A length-delimited field whose content is written first and then moved to make room for its length.
    fn nested(&mut self, tag: u64, content: impl FnOnce(&mut Self)) {
        varint(&mut self.out, tag << 3 | 2);
        let start = self.out.len();
        content(self);
        let mut length = Vec::with_capacity(5);
        varint(&mut length, (self.out.len() - start) as u64);
        self.out.splice(start..start, length);
    }

    fn bytes(&mut self, tag: u64, content: &[u8]) {
        varint(&mut self.out, tag << 3 | 2);
        varint(&mut self.out, content.len() as u64);
        self.out.extend_from_slice(content);
    }

    fn integer(&mut self, tag: u64, value: i64) {
        varint(&mut self.out, tag << 3);
        // Two's complement on the wire, negative int32 included.
        varint(&mut self.out, value as u64);
    }
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::super::read;
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_written_is_read_as_it_was() {
        for object in [
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "generation": 3, "creationTimestamp": "2026-01-02T03:04:05Z", "labels": {"a": "b"},
                "managedFields": [{"manager": "m", "fieldsV1": {"f:spec": {}}}]},
                "spec": {"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}], "resources": {"limits": {"cpu": "500m"}},
                    "livenessProbe": {"httpGet": {"path": "/", "port": "http"}}}], "volumes": [{"name": "v", "emptyDir": {}}], "terminationGracePeriodSeconds": 0,
                    "nodeSelector": {"a": "b"}}}),
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"k": "AQI="}, "immutable": false}),
            json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l"},
                "spec": {"leaseDurationSeconds": 15, "renewTime": "2026-01-02T03:04:05.123456Z"}}),
            json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "p"}, "spec": {"minAvailable": "50%", "maxUnavailable": 0}}),
            json!({"apiVersion": "apps/v1", "kind": "ControllerRevision", "metadata": {"name": "r"}, "data": {"any": [1, "x"]}, "revision": 0}),
            json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "d"}, "spec": {"versions": [{"name": "v1",
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {
                    "a": {"type": "array", "items": {"type": "string", "default": "x"}}, "b": {"additionalProperties": {"type": "integer", "minimum": 1.5}}, "c": {"additionalProperties": true}}}}}]}}),
            json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": {"name": "x"}}),
            json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "message": "no", "reason": "NotFound", "details": {"name": "x", "kind": "pods"}, "code": 404}),
        ] {
            assert_eq!(read(&write(&object).unwrap()).unwrap(), object);
        }
        assert_eq!(write(&json!({"apiVersion": "example.com/v1", "kind": "Thing"})), None);
        // Nothing is lost without a word.
        assert_eq!(write(&json!({"apiVersion": "v1", "kind": "Pod", "spec": {"newest": 1}})), None);
        assert!(write_event("ADDED", &json!({"apiVersion": "v1", "kind": "Pod", "spec": {"newest": 1}})).is_some());
    }

    #[test]
    fn lists_hold_items_and_events_objects() {
        let list =
            write(&json!({"apiVersion": "v1", "kind": "ConfigMapList", "metadata": {"resourceVersion": "7"}, "items": [{"metadata": {"name": "a"}}]})).unwrap();
        let raw = [&[0x0a, 3, 0x12, 1, b'7'][..], &[0x12, 5, 0x0a, 3, 0x0a, 1, b'a']].concat();
        let type_meta = [&[0x0a, 2][..], b"v1", &[0x12, 13], b"ConfigMapList"].concat();
        let want = [MAGIC, &[0x0a, 19], &type_meta, &[0x12, 12], &raw, &[0x1a, 0, 0x22, 0]].concat();
        assert_eq!(list, want);
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap"});
        let (event, inner) = (write_event("ADDED", &object).unwrap(), write(&object).unwrap());
        assert_eq!(event[..4], u32::try_from(event.len() - 4).unwrap().to_be_bytes());
        assert!(event.ends_with(&inner));
    }
}
