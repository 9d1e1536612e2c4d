//! Stored: what the server works out once from a record or an event and keeps with it.
use api_meta::{FieldSelector, LabelSelector, Object};
use api_resource::{AnyResource, Field, at_path};
use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::Value;
use std::borrow::Cow;
use std::sync::{Arc, OnceLock};
use store::{Event, Record};

/// The parsed form of a record.
pub struct Stored {
    pub object: Arc<Object>,
    /// By what it was last brought into the form its kind has now, and what came of that; `None`: itself.
    pub(crate) settled: Mutex<Option<(u64, Option<Arc<Record>>)>>,
    /// The values of the kind's selectable fields, worked out when first asked for.
    fields: OnceLock<Vec<(Box<str>, Box<str>)>>,
}

/// A record's object. What is in the store was encoded by this server, so it parses.
pub fn stored(record: &Record) -> &Stored {
    record.memo(|record| Stored {
        object: Arc::new(Object::parse(record.value.clone()).expect("the store holds only objects this server encoded")),
        settled: Mutex::new(None),
        fields: OnceLock::new(),
    })
}

impl Stored {
    pub fn matches(&self, kind: &dyn AnyResource, labels: &LabelSelector, fields: &FieldSelector) -> bool {
        if !labels.matches(&self.object.meta().labels) {
            return false;
        }
        fields.is_everything() || fields.matches(|field| self.field(kind, field))
    }

    fn field(&self, kind: &dyn AnyResource, field: &str) -> Cow<'_, str> {
        let meta = self.object.meta();
        match field {
            "metadata.name" => Cow::Borrowed(&meta.name),
            "metadata.namespace" => Cow::Borrowed(&meta.namespace),
            _ => {
                let fields = self.fields.get_or_init(|| selectable(kind, &self.object.to_value()));
                match fields.iter().find(|(name, _)| **name == *field) {
                    Some((_, value)) => Cow::Borrowed(value),
                    // The kind came to select by it only later.
                    None => Cow::Owned(text_at(&self.object.to_value(), field)),
                }
            }
        }
    }
}

fn selectable(kind: &dyn AnyResource, object: &Value) -> Vec<(Box<str>, Box<str>)> {
    let value = |field: &Field| {
        let own = [field.path.as_ref()];
        let paths = if field.value_paths.is_empty() { &own[..] } else { field.value_paths };
        paths.iter().map(|path| text_at(object, path)).find(|text| !text.is_empty()).unwrap_or_else(|| field.absent.to_owned())
    };
    kind.fields().iter().map(|field| (field.path.as_ref().into(), value(field).into())).collect()
}

fn text_at(object: &Value, path: &str) -> String {
    match at_path(object, path) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    }
}

/// An event's watch frame, encoded once for all watchers that see it as what it is.
pub fn frame(event: &Arc<Event>) -> &Bytes {
    event.memo(|event| {
        let kind = match (event.deleted, &event.previous) {
            (true, _) => "DELETED",
            (false, None) => "ADDED",
            (false, Some(_)) => "MODIFIED",
        };
        encode_frame(kind, &event.record.value)
    })
}

/// A frame for a watch across clusters: it tells the object's cluster beside it.
pub fn encode_frame_of(kind: &str, cluster: &str, object: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(object.len() + cluster.len() + 54);
    for part in [b"{\"type\":\"", kind.as_bytes(), b"\",\"cluster\":\"", cluster.as_bytes(), b"\",\"object\":", object, b"}\n"] {
        out.extend_from_slice(part);
    }
    out.into()
}

pub fn encode_frame(kind: &str, object: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(object.len() + 40);
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(b"\",\"object\":");
    out.extend_from_slice(object);
    out.extend_from_slice(b"}\n");
    out.into()
}
