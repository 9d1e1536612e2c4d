//! Versions: several served forms of objects that are stored once.
//!
//! What is stored keeps the apiVersion it was stored in; it becomes what a client asked for at the edges.
use api_schema::SchemaRef;
use serde_json::Value;

/// How one served version's objects relate to what is stored.
///
/// Implemented by versions whose objects may be stored in another form than their own. A version that has
/// none is stored exactly as it is served, and its bytes are never looked into on the way out.
pub trait Versions: Send + Sync {
    /// The apiVersion that writes are stored in.
    fn storage(&self) -> &str;
    /// Makes an object one of another apiVersion of the same kind. Error: why that can't be.
    fn convert(&self, object: Value, to: &str) -> Result<Value, String>;
    /// Who converts between apiVersions, if not `convert`.
    fn webhook(&self) -> Option<&WebhookConversion> {
        None
    }
    /// The schema of another version of the kind, by apiVersion: what the managed fields of its writers are about.
    fn schema_of(&self, api_version: &str) -> Option<SchemaRef>;
    /// Brings an object of any version, as it was stored, into the form its schema asks for now.
    fn settle(&self, _object: &mut Value) {}
    /// Objects written at this revision or later need no settling.
    fn settled_since(&self) -> u64 {
        0
    }
    /// Changes with what `settle` does.
    fn settled_by(&self) -> u64 {
        0
    }
}

/// A webhook that converts, as a definition configures it.
#[derive(Clone, Debug, PartialEq)]
pub struct WebhookConversion {
    /// `apiextensions.k8s.io/v1` WebhookClientConfig.
    pub client_config: Value,
    /// ConversionReview versions it understands, preferred first.
    pub review_versions: Vec<String>,
    /// The definition it is of, for messages.
    pub definition: String,
}
