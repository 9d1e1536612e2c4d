//! Schema: one node of a structural schema, for built-in kinds and custom ones alike.
use crate::structure;
use regex::Regex;
use serde_json::Value;
use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::{Arc, LazyLock, OnceLock};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Type {
    /// Anything at all (RawExtension, JSON, x-preserve-unknown without a type).
    #[default]
    Any,
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
    IntOrString,
}

/// `x-kubernetes-list-type`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ListType {
    #[default]
    Atomic,
    Set,
    /// With its `x-kubernetes-list-map-keys`.
    Map(Vec<Box<str>>),
}

/// `x-kubernetes-map-type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MapType {
    #[default]
    Granular,
    Atomic,
}

/// `x-kubernetes-patch-strategy` and `-merge-key` of a field (strategic merge patch only).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PatchStrategy {
    pub merge: bool,
    pub retain_keys: bool,
    /// Told to replace even where the default is to merge (an object).
    pub replace: bool,
    pub merge_key: Option<Box<str>>,
}

/// One node. Field-level facts (list type, patch strategy) sit on the field's own node.
#[derive(Clone, Debug, Default)]
pub struct Schema {
    pub kind: Type,
    /// `format`: int32, int64, double, byte, date-time, ...; built-in Quantity and MicroTime: quantity, micro-time.
    pub format: Option<Box<str>>,
    pub nullable: bool,
    pub properties: BTreeMap<Box<str>, SchemaRef>,
    /// The schema of values under keys not in `properties` (maps).
    pub additional: Option<SchemaRef>,
    pub items: Option<SchemaRef>,
    pub required: Vec<Box<str>>,
    pub list_type: ListType,
    pub map_type: MapType,
    pub patch: PatchStrategy,
    pub default: Option<Value>,
    /// `x-kubernetes-preserve-unknown-fields`.
    pub preserve_unknown: bool,
    /// `x-kubernetes-embedded-resource`.
    pub embedded_resource: bool,
    /// Value constraints (custom resources): enum, bounds, pattern, ...
    pub constraints: Option<Box<Constraints>>,
    /// For a built-in: its OpenAPI definition name, e.g. `io.k8s.api.apps.v1.Deployment`.
    pub definition: Option<Box<str>>,
}

/// The value validations of OpenAPI v3 that structural schemas may carry.
#[derive(Clone, Debug, Default)]
pub struct Constraints {
    pub enumeration: Vec<Value>,
    pub minimum: Option<f64>,
    pub maximum: Option<f64>,
    pub exclusive_minimum: bool,
    pub exclusive_maximum: bool,
    pub multiple_of: Option<f64>,
    pub min_length: Option<u64>,
    pub max_length: Option<u64>,
    pub pattern: Option<Pattern>,
    pub min_items: Option<u64>,
    pub max_items: Option<u64>,
    pub unique_items: bool,
    pub min_properties: Option<u64>,
    pub max_properties: Option<u64>,
    pub all_of: Vec<Schema>,
    pub any_of: Vec<Schema>,
    pub one_of: Vec<Schema>,
    pub not: Option<Box<Schema>>,
}

/// A regular expression, compiled when first matched.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: Box<str>,
    compiled: OnceLock<Option<Regex>>,
}

impl Pattern {
    pub fn new(text: &str) -> Self {
        Self { text: text.into(), compiled: OnceLock::new() }
    }
    pub fn as_str(&self) -> &str {
        &self.text
    }
    /// Why a text is no expression.
    pub fn check(text: &str) -> Result<(), String> {
        Regex::new(text).map(|_| ()).map_err(|error| error.to_string().lines().last().unwrap_or_default().to_owned())
    }
    /// An expression that does not compile matches nothing.
    pub fn matches(&self, text: &str) -> bool {
        self.compiled.get_or_init(|| Regex::new(&self.text).ok()).as_ref().is_some_and(|r| r.is_match(text))
    }
}

/// A schema by value or, where built-in definitions refer to each other (even in circles), by its node.
#[derive(Clone, Debug)]
pub struct SchemaRef(Inner);

#[derive(Clone, Debug)]
enum Inner {
    Owned(Arc<Schema>),
    /// A node of the built-in structure, decoded at first use.
    Builtin(u16),
}

impl SchemaRef {
    pub fn new(schema: Schema) -> Self {
        Self(Inner::Owned(Arc::new(schema)))
    }
    /// A reference to a built-in definition; panics when there is none of this name.
    pub fn builtin(definition: &str) -> Self {
        Self::node(structure::find_definition(definition).unwrap_or_else(|| panic!("no built-in definition {definition}")))
    }
    pub(crate) fn node(id: u16) -> Self {
        Self(Inner::Builtin(id))
    }
}

impl Deref for SchemaRef {
    type Target = Schema;
    fn deref(&self) -> &Schema {
        match &self.0 {
            Inner::Owned(schema) => schema,
            Inner::Builtin(id) => structure::schema(*id),
        }
    }
}

static ANYTHING: LazyLock<Schema> = LazyLock::new(|| Schema { preserve_unknown: true, ..Schema::default() });

impl Schema {
    /// The schema of anything at all.
    pub fn anything() -> &'static Self {
        &ANYTHING
    }
    /// The node of a field: a declared property, else the map's value schema.
    pub fn field(&self, name: &str) -> Option<&Schema> {
        self.properties.get(name).or(self.additional.as_ref()).map(Deref::deref)
    }
    /// The node of a list's elements.
    pub fn item(&self) -> Option<&Schema> {
        self.items.as_deref()
    }
}
