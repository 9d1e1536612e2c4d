//! Definition: one CustomResourceDefinition as the server follows it: its names, its state, the versions it serves.
use crate::custom_resource::CustomResource;
use crate::family::Family;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use std::sync::Arc;

pub const GROUP: &str = "apiextensions.k8s.io";
pub const PLURAL: &str = "customresourcedefinitions";
/// The finalizer under which a definition's objects are deleted before it goes itself.
pub const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

/// Why a stored object is no definition.
#[derive(Debug, thiserror::Error)]
#[error("not a CustomResourceDefinition")]
pub struct DefinitionError(#[from] serde_json::Error);

/// A set of names, as asked for or as accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AcceptedNames {
    pub plural: String,
    pub singular: String,
    pub short_names: Vec<String>,
    pub kind: String,
    pub list_kind: String,
    pub categories: Vec<String>,
}

#[derive(Deserialize)]
pub(crate) struct Read {
    metadata: ReadMetadata,
    pub spec: Spec,
    #[serde(default)]
    status: Option<ReadStatus>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReadMetadata {
    name: String,
    #[serde(default)]
    deletion_timestamp: Option<String>,
    #[serde(default)]
    finalizers: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Spec {
    pub group: String,
    pub scope: String,
    pub names: AcceptedNames,
    pub versions: Vec<SpecVersion>,
    #[serde(default)]
    pub conversion: Option<Conversion>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SpecVersion {
    pub name: String,
    pub served: bool,
    pub storage: bool,
    #[serde(default)]
    pub deprecated: bool,
    #[serde(default)]
    pub deprecation_warning: Option<String>,
    #[serde(default)]
    pub schema: Option<Validation>,
    #[serde(default)]
    pub subresources: Option<Subresources>,
    #[serde(default)]
    pub additional_printer_columns: Option<Vec<PrinterColumn>>,
    #[serde(default)]
    pub selectable_fields: Option<Vec<SelectableField>>,
}

#[derive(Deserialize)]
pub(crate) struct Validation {
    #[serde(rename = "openAPIV3Schema", default)]
    pub schema: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
pub(crate) struct Subresources {
    #[serde(default)]
    pub status: Option<Value>,
    #[serde(default)]
    pub scale: Option<Scale>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Scale {
    pub spec_replicas_path: String,
    pub status_replicas_path: String,
    #[serde(default)]
    pub label_selector_path: Option<String>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PrinterColumn {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default)]
    pub format: String,
    #[serde(default)]
    pub description: String,
    #[serde(default)]
    pub priority: i32,
    pub json_path: String,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SelectableField {
    pub json_path: String,
}

#[derive(Deserialize)]
pub(crate) struct Conversion {
    pub strategy: String,
    #[serde(default)]
    pub webhook: Option<Webhook>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Webhook {
    #[serde(default)]
    pub client_config: Value,
    #[serde(default)]
    pub conversion_review_versions: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ReadStatus {
    accepted_names: AcceptedNames,
    conditions: Option<Vec<Condition>>,
}

#[derive(Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

pub struct Definition {
    /// `{plural}.{group}`.
    pub name: String,
    pub group: String,
    pub plural: String,
    /// The names this definition holds in its group.
    pub accepted: AcceptedNames,
    pub names_accepted: bool,
    pub established: bool,
    /// Whether it is being deleted while its objects still have to go.
    pub going: bool,
    pub terminating: bool,
    /// The versions it serves once it is established.
    pub served: Vec<Arc<CustomResource>>,
    family: Arc<Family>,
}

impl Definition {
    /// Reads a stored definition. What `before` (the same definition at an earlier time) has worked out of
    /// parts that are still the same stays; what is not the same is so since `revision`.
    pub fn read(bytes: &[u8], revision: u64, before: Option<&Definition>) -> Result<Self, DefinitionError> {
        let read: Read = serde_json::from_slice(bytes)?;
        let status = read.status.unwrap_or_default();
        let condition = |kind: &str| status.conditions.iter().flatten().any(|c| c.kind == kind && c.status == "True");
        let going = read.metadata.deletion_timestamp.is_some() && read.metadata.finalizers.iter().flatten().any(|f| f == CLEANUP);
        let terminating = condition("Terminating");
        let fresh = Family::new(&read.metadata.name, &read.spec, revision);
        let family = match before {
            Some(before) if *before.family == fresh => before.family.clone(),
            _ => Arc::new(fresh),
        };
        // The names it is found by are those it was given; until then nobody finds it.
        let names = if status.accepted_names.plural.is_empty() { &read.spec.names } else { &status.accepted_names };
        let served = read.spec.versions.iter().enumerate().filter(|(_, version)| version.served).map(|(index, version)| {
            let made = CustomResource::new(&read.spec, index, version, names, terminating, family.clone());
            let same = before.and_then(|before| before.served.iter().find(|other| ***other == made));
            same.cloned().unwrap_or_else(|| Arc::new(made))
        });
        Ok(Self {
            served: served.collect(),
            name: read.metadata.name,
            group: read.spec.group.clone(),
            plural: read.spec.names.plural.clone(),
            names_accepted: condition("NamesAccepted"),
            established: condition("Established"),
            accepted: status.accepted_names,
            going,
            terminating,
            family,
        })
    }

    /// Whether its objects are served.
    pub fn is_served(&self) -> bool {
        self.names_accepted || self.established
    }

    /// The version of this name, if it is served.
    pub fn version(&self, version: &str) -> Option<&Arc<CustomResource>> {
        self.served.iter().find(|resource| api_resource::AnyResource::names(&***resource).version == version)
    }

    /// Some version of it, to delete its objects through.
    pub fn any_version(&self) -> Option<&Arc<CustomResource>> {
        self.served.iter().find(|resource| resource.is_storage()).or_else(|| self.served.first())
    }
}
