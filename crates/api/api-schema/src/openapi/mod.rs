//! OpenAPI documents of what a server serves: v3 by group and version, v2 for all.
//!
//! They are made when asked for and not kept: the prose of the built-in kinds stays compressed in the binary.

mod definitions;
mod merge;
mod operations;
mod parameters;
mod v2;
pub mod v2_protobuf;
mod v3;

pub use merge::merge_v2;
pub use v2::document as v2_document;
pub use v3::{document as v3_document, index as v3_index};

use crate::SchemaRef;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// A resource that is served.
#[derive(Clone, Debug)]
pub struct Served {
    pub group: String,
    pub version: String,
    pub kind: String,
    pub plural: String,
    pub namespaced: bool,
    /// As in discovery: create, delete, deletecollection, get, list, patch, update, watch.
    pub verbs: Vec<String>,
    pub subresources: Vec<ServedSubresource>,
    /// Of a built-in kind: names its definition.
    pub schema: SchemaRef,
    /// Of a custom kind: its `openAPIV3Schema`, with the descriptions.
    pub document: Option<Arc<Value>>,
    /// Changes with `document`, if somebody knows already.
    pub fingerprint: Option<u64>,
}

/// A path below a resource.
#[derive(Clone, Debug)]
pub struct ServedSubresource {
    pub name: String,
    pub verbs: Vec<String>,
    /// The (group, version, kind) it takes and gives; all empty for the resource's own.
    pub speaks: (String, String, String),
}

impl Served {
    /// The name of its definition: `io.k8s.api.apps.v1.Deployment`, `io.k3k.v1beta1.Cluster`.
    fn definition(&self) -> String {
        match (&self.document, self.schema.definition.as_deref()) {
            (None, Some(definition)) => definition.to_owned(),
            _ => {
                let mut parts: Vec<&str> = self.group.split('.').collect();
                parts.reverse();
                format!("{}.{}.{}", parts.join("."), self.version, self.kind)
            }
        }
    }
    fn has(&self, verb: &str) -> bool {
        self.verbs.iter().any(|v| v == verb)
    }
    /// `api/v1`, `apis/apps/v1`: the root of its paths.
    fn root(&self) -> String {
        if self.group.is_empty() { format!("api/{}", self.version) } else { format!("apis/{}/{}", self.group, self.version) }
    }
}

/// What a document of these resources is made of: equal hashes, equal documents. Costs far less than a document.
pub fn hash<'a>(served: impl IntoIterator<Item = &'a Served>) -> String {
    let mut hasher = Sha256::new();
    let mut add = |text: &str| {
        hasher.update(text.len().to_le_bytes());
        hasher.update(text);
    };
    add(definitions::hash());
    for resource in served {
        [&resource.group, &resource.version, &resource.kind, &resource.plural].into_iter().for_each(|text| add(text));
        add(if resource.namespaced { "namespaced" } else { "cluster" });
        add(&resource.verbs.join(","));
        for subresource in &resource.subresources {
            let (group, version, kind) = &subresource.speaks;
            [&subresource.name, &subresource.verbs.join(","), group, version, kind].into_iter().for_each(|text| add(text));
        }
        match (&resource.document, resource.fingerprint) {
            (Some(_), Some(fingerprint)) => add(&fingerprint.to_string()),
            (Some(document), None) => add(&document.to_string()),
            (None, _) => {}
        }
    }
    hasher.finalize().iter().map(|byte| format!("{byte:02X}")).collect()
}

/// Writes a JSON object member by member, so that a document never exists as a whole tree.
struct ObjectWriter {
    out: Vec<u8>,
    empty: bool,
}

impl ObjectWriter {
    fn new() -> Self {
        Self { out: vec![b'{'], empty: true }
    }
    fn member(&mut self, key: &str, value: &Value) {
        self.key(key);
        serde_json::to_writer(&mut self.out, value).expect("a value encodes");
    }
    /// A member that is an object written the same way.
    fn object(&mut self, key: &str, write: impl FnOnce(&mut ObjectWriter)) {
        self.key(key);
        let mut inner = ObjectWriter { out: std::mem::take(&mut self.out), empty: true };
        inner.out.push(b'{');
        write(&mut inner);
        self.out = inner.finish();
    }
    fn key(&mut self, key: &str) {
        if !std::mem::take(&mut self.empty) {
            self.out.push(b',');
        }
        serde_json::to_writer(&mut self.out, key).expect("a string encodes");
        self.out.push(b':');
    }
    fn finish(mut self) -> Vec<u8> {
        self.out.push(b'}');
        self.out
    }
}

#[cfg(test)]
mod tests;
