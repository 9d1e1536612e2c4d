//! Writer: who makes a change, and which fields of it do not count.
use super::fields::{Fields, leaf, subtract};
use super::managed::{Entry, Operation, stamp};
use jiff::Timestamp;
use serde_json::{Map, Value};

/// Who writes an object, through which subresource, when.
#[derive(Clone, Copy, Debug)]
pub struct Writer<'a> {
    /// The field manager: the `fieldManager` parameter, else the user agent up to its first `/`.
    pub manager: &'a str,
    /// Empty for the object itself.
    pub subresource: &'a str,
    /// Dotted paths the write cannot change (upstream's reset fields), e.g. `status` for the object
    /// itself, `spec` for its status: with all below them they are never owned through this write.
    pub reset: &'a [&'a str],
    pub now: Timestamp,
}

impl Writer<'_> {
    pub(crate) fn entry(&self, operation: Operation, api_version: &str, fields: Fields) -> Entry {
        Entry {
            manager: self.manager.into(),
            operation,
            api_version: api_version.into(),
            subresource: self.subresource.into(),
            time: Some(stamp(self.now)),
            fields,
        }
    }

    /// Takes the fields out that do not count.
    pub(crate) fn strip_reset(&self, set: &mut Fields) {
        for path in self.reset {
            let node = path.rsplit('.').fold(leaf(), |node, name| Value::Object(Map::from_iter([(format!("f:{name}"), node)])));
            if let Value::Object(node) = node {
                subtract(set, &node, true);
            }
        }
    }
}

/// Takes out what no one owns: the identity of the object, and what the server alone writes.
pub(crate) fn strip_identity(set: &mut Fields) {
    const METADATA: &[&str] = &["name", "namespace", "creationTimestamp", "selfLink", "uid", "clusterName", "generation", "managedFields", "resourceVersion"];
    set.remove("f:apiVersion");
    set.remove("f:kind");
    if let Some(Value::Object(metadata)) = set.get_mut("f:metadata") {
        metadata.remove(".");
        for name in METADATA {
            metadata.remove(&format!("f:{name}"));
        }
        if metadata.is_empty() {
            set.remove("f:metadata");
        }
    }
}
