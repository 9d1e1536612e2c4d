//! Object: encoded JSON bytes plus parsed metadata, shared and never copied.
use crate::label_selector::Labels;
use crate::managed_fields::without_managed_fields;
use bytes::Bytes;
use memchr::memmem;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::sync::OnceLock;

/// The metadata the server, caches and controllers ask for again and again.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Meta {
    pub name: Box<str>,
    pub namespace: Box<str>,
    pub uid: Box<str>,
    pub resource_version: Box<str>,
    pub generation: i64,
    pub labels: LabelMap,
    pub deletion_timestamp: Option<Box<str>>,
    pub finalizers: Vec<Box<str>>,
    pub owner_references: Vec<Owner>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Owner {
    pub api_version: Box<str>,
    pub kind: Box<str>,
    pub name: Box<str>,
    pub uid: Box<str>,
    pub controller: bool,
    pub block_owner_deletion: bool,
}

/// Labels in key order; small, so a sorted list serves better than a tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelMap(Vec<(Box<str>, Box<str>)>);

impl<'de> Deserialize<'de> for LabelMap {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let map = Option::<std::collections::BTreeMap<Box<str>, Box<str>>>::deserialize(deserializer)?;
        Ok(Self(map.unwrap_or_default().into_iter().collect()))
    }
}

impl Labels for LabelMap {
    fn label(&self, key: &str) -> Option<&str> {
        let at = self.0.binary_search_by(|(k, _)| (**k).cmp(key)).ok()?;
        Some(&self.0[at].1)
    }
}

impl LabelMap {
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(k, v)| (&**k, &**v))
    }
}

/// An object as it is stored and sent: its JSON bytes, with the metadata read out once.
#[derive(Clone, Debug)]
pub struct Object {
    bytes: Bytes,
    meta: Meta,
    value: OnceLock<Value>,
}

#[derive(Deserialize)]
struct OnlyMeta {
    #[serde(default)]
    metadata: Meta,
}

impl Object {
    pub fn parse(bytes: Bytes) -> Result<Self, serde_json::Error> {
        let only: OnlyMeta = serde_json::from_slice(&bytes)?;
        Ok(Self { bytes, meta: only.metadata, value: OnceLock::new() })
    }
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
    pub fn meta(&self) -> &Meta {
        &self.meta
    }
    /// The object, but for its managed fields, as a value that is kept with it: for what many requests look at, such as policies.
    pub fn value(&self) -> &Value {
        self.value.get_or_init(|| serde_json::from_slice(&without_managed_fields(&self.bytes)).expect("parse checked that these bytes are JSON"))
    }
    /// Whether this text stands anywhere in the encoded object: a quick way to see what it has nothing of.
    pub fn mentions(&self, text: &str) -> bool {
        memmem::find(&self.bytes, text.as_bytes()).is_some()
    }
    /// The object as a value of its own.
    pub fn to_value(&self) -> Value {
        serde_json::from_slice(&self.bytes).expect("parse checked that these bytes are JSON")
    }
    pub fn decode<T: serde::de::DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.bytes)
    }
}

/// What the encoding of every object starts with, up to its metadata's first field.
///
/// INVARIANT: the first `"metadata":{` of an encoded object opens its own metadata, because kind and
/// apiVersion, which hold no objects, are the only fields written before it. `stamp` relies on it.
const METADATA_OPENS: &[u8] = b"\"metadata\":{";

/// Encodes an object for the store: kind, apiVersion, metadata (without resourceVersion), then the rest in key order.
pub fn encode(object: &Map<String, Value>) -> Bytes {
    fn field(out: &mut Vec<u8>, key: &str, value: &Value) {
        if out.len() > 1 {
            out.push(b',');
        }
        serde_json::to_writer(&mut *out, key).expect("a string encodes");
        out.push(b':');
        serde_json::to_writer(&mut *out, value).expect("a value encodes");
    }
    let mut out = Vec::with_capacity(1024);
    out.push(b'{');
    for key in ["kind", "apiVersion"] {
        if let Some(value) = object.get(key) {
            field(&mut out, key, value);
        }
    }
    match object.get("metadata") {
        Some(Value::Object(metadata)) if metadata.contains_key("resourceVersion") => {
            let mut metadata = metadata.clone();
            metadata.remove("resourceVersion");
            field(&mut out, "metadata", &Value::Object(metadata));
        }
        Some(metadata @ Value::Object(_)) => field(&mut out, "metadata", metadata),
        _ => field(&mut out, "metadata", &Value::Object(Map::new())),
    }
    for (key, value) in object {
        if !matches!(key.as_str(), "kind" | "apiVersion" | "metadata") {
            field(&mut out, key, value);
        }
    }
    out.push(b'}');
    out.into()
}

/// Writes `revision` into an encoded object's metadata as its resourceVersion.
pub fn stamp(encoded: &[u8], revision: u64) -> Bytes {
    let Some(at) = memmem::find(encoded, METADATA_OPENS) else {
        return Bytes::copy_from_slice(encoded);
    };
    let at = at + METADATA_OPENS.len();
    let separator = if encoded.get(at) == Some(&b'}') { "" } else { "," };
    let field = format!("\"resourceVersion\":\"{revision}\"{separator}");
    let mut out = Vec::with_capacity(encoded.len() + field.len());
    out.extend_from_slice(&encoded[..at]);
    out.extend_from_slice(field.as_bytes());
    out.extend_from_slice(&encoded[at..]);
    out.into()
}

/// Replaces the revision that [`stamp`] wrote.
pub fn restamp(stamped: &[u8], revision: u64) -> Bytes {
    const OPENS: &[u8] = b"\"resourceVersion\":\"";
    let Some(at) = memmem::find(stamped, METADATA_OPENS).map(|at| at + METADATA_OPENS.len()).filter(|at| stamped[*at..].starts_with(OPENS)) else {
        return stamp(stamped, revision);
    };
    let at = at + OPENS.len();
    let end = stamped[at..].iter().position(|byte| *byte == b'"').map_or(stamped.len(), |length| at + length);
    [&stamped[..at], revision.to_string().as_bytes(), &stamped[end..]].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn stamping_finds_the_objects_own_metadata() {
        let value = json!({"apiVersion":"v1","kind":"Thing","alpha":{"metadata":{"name":"inner"}},"metadata":{"name":"outer","resourceVersion":"1","labels":{"a":"b"}}});
        let object = Object::parse(stamp(&encode(value.as_object().unwrap()), 42)).unwrap();
        assert_eq!(&*object.meta().resource_version, "42");
        assert_eq!(&*object.meta().name, "outer");
        assert_eq!(object.meta().labels.label("a"), Some("b"));
        assert_eq!(object.to_value()["alpha"]["metadata"], json!({"name":"inner"}));
        let bare = Object::parse(stamp(&encode(json!({"kind":"X"}).as_object().unwrap()), 7)).unwrap();
        assert_eq!(&*bare.meta().resource_version, "7");
        assert_eq!(restamp(bare.bytes(), 123), stamp(&encode(json!({"kind":"X"}).as_object().unwrap()), 123));
    }
}
