//! The Resource trait: all that one kind declares about itself; everything else is generic.
use crate::column::{Column, TableColumn};
use crate::names::{Names, ResourceScope, Text};
use crate::versions::Versions;
use api_meta::{FieldErrors, FieldPath, GroupResource, names};
use api_schema::SchemaRef;
use jiff::Timestamp;
use serde_json::Value;
use std::borrow::Cow;
use std::sync::Arc;

/// Who writes and when: what preparing an object may depend on.
pub struct WriteContext<'a> {
    pub now: Timestamp,
    pub username: &'a str,
    pub user_uid: &'a str,
    pub groups: &'a [String],
}

/// How `metadata.name` is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameRule {
    Subdomain,
    Label,
    Dns1035,
    PathSegment,
}

impl NameRule {
    /// Why the name is wrong; empty when it is right.
    pub fn check(self, name: &str) -> Vec<String> {
        match self {
            Self::Subdomain => names::dns1123_subdomain(name),
            Self::Label => names::dns1123_label(name),
            Self::Dns1035 => names::dns1035_label(name),
            Self::PathSegment => names::path_segment(name),
        }
    }
}

/// A selectable field: its dotted path, and what it counts as when absent or empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// What selectors call it.
    pub path: Cow<'static, str>,
    /// Where its value lives if not at `path`: the first of these paths that has one.
    pub value_paths: &'static [&'static str],
    pub absent: &'static str,
}

/// A subresource under `/{plural}/{name}/{subresource}`.
#[derive(Clone, Debug)]
pub struct Subresource {
    pub name: &'static str,
    pub kind: SubresourceKind,
    /// The kind it speaks, as (group, version, kind); "" for the resource's own.
    pub speaks: (&'static str, &'static str, &'static str),
    pub verbs: &'static [&'static str],
}

#[derive(Clone, Debug)]
pub enum SubresourceKind {
    /// A part of the object with an update path of its own: takes the stored object and the one
    /// sent, and gives what is to be stored (status, approval, ephemeralcontainers, finalize, ...).
    Part(fn(stored: &Value, sent: &Value) -> Value),
    /// `autoscaling/v1` Scale over these paths.
    Scale { replicas: Text, status_replicas: Text, selector: Text },
    /// Served by a handler of its own in the server (log, exec, binding, eviction, token, ...).
    Special,
}

/// The verbs of a resource that is stored.
pub const ALL_VERBS: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// `/status`: the status, labels and annotations sent, on the spec stored.
pub const STATUS: Subresource =
    Subresource { name: "status", kind: SubresourceKind::Part(status_part), speaks: ("", "", ""), verbs: &["get", "patch", "update"] };

fn status_part(stored: &Value, sent: &Value) -> Value {
    let mut merged = stored.clone();
    match sent.get("status") {
        Some(status) => merged["status"] = status.clone(),
        None => {
            merged.as_object_mut().map(|object| object.remove("status"));
        }
    }
    for key in ["labels", "annotations", "managedFields", "resourceVersion", "uid"] {
        match sent["metadata"].get(key) {
            Some(value) => merged["metadata"][key] = value.clone(),
            None => {
                merged["metadata"].as_object_mut().map(|metadata| metadata.remove(key));
            }
        }
    }
    merged
}

/// `/scale` over the usual paths.
pub const SCALE: Subresource = Subresource {
    name: "scale",
    kind: SubresourceKind::Scale {
        replicas: Cow::Borrowed(".spec.replicas"),
        status_replicas: Cow::Borrowed(".status.replicas"),
        selector: Cow::Borrowed(".spec.selector"),
    },
    speaks: ("autoscaling", "v1", "Scale"),
    verbs: &["get", "patch", "update"],
};

/// A schema somebody wrote, as OpenAPI v3, and what is made of it.
pub struct WrittenSchema {
    pub document: Arc<Value>,
    pub schema: SchemaRef,
}

impl WrittenSchema {
    /// # Panics
    /// Where the document is no structural schema, which a test of its kind shows.
    pub fn new(document: Value) -> Self {
        let schema = api_schema::Schema::of_custom_resource(&document).expect("a built-in kind's schema is structural");
        Self { document: Arc::new(document), schema: SchemaRef::new(schema) }
    }
}

/// One kind. Everything but the names has a default.
///
/// Values reach these functions decoded and schema-checked: field types can be relied on.
pub trait Resource: Send + Sync + 'static {
    const NAMES: Names;
    const SCOPE: ResourceScope = ResourceScope::Namespaced;
    /// Between Name and Age, which every kind has, unless `OWN_COLUMNS` says these are all.
    const COLUMNS: &'static [Column] = &[];
    const OWN_COLUMNS: bool = false;
    const NAME_RULE: NameRule = NameRule::Subdomain;
    const VERBS: &'static [&'static str] = ALL_VERBS;
    const SUBRESOURCES: &'static [Subresource] = &[];
    /// Selectable besides metadata.name and metadata.namespace.
    const FIELDS: &'static [Field] = &[];
    /// Whether spec changes bump metadata.generation.
    const GENERATION: bool = true;
    /// Whether a PUT to a name that isn't there creates it (upstream's AllowCreateOnUpdate: Lease, Endpoints, Event, ...).
    const CREATE_ON_UPDATE: bool = false;
    /// Whether an update without a resourceVersion is accepted (upstream's AllowUnconditionalUpdate).
    const UNCONDITIONAL_UPDATE: bool = true;
    /// Whether a create may bring its status along (upstream: Nodes alone).
    const STATUS_ON_CREATE: bool = false;
    /// Whether a delete is answered with the object that is gone, instead of a Status (upstream's ReturnDeletedObject).
    const RETURNS_DELETED: bool = false;
    /// What clients of this version are warned of, whatever they do with it.
    const DEPRECATION: Option<&'static str> = None;
    /// Whether its objects are worked out when somebody asks, and never stored.
    const COMPUTED: bool = false;
    /// Whether the dependants of a deleted object are orphaned by default (legacy kinds).
    const ORPHANS_BY_DEFAULT: bool = false;
    /// The group and plural its objects are kept under, when another version's, so that both serve the same objects.
    const STORED_AS: Option<(&'static str, &'static str)> = None;
    /// How its objects become what is stored and back, when that is another version's form.
    const VERSIONS: Option<&'static dyn Versions> = None;

    /// The schema of a kind that upstream serves from outside its own API server; those from inside have generated ones.
    fn written() -> Option<&'static WrittenSchema> {
        None
    }
    /// Fills in what the user left out, as upstream's defaulting does. Runs on every decoded object, old ones included.
    fn default(_object: &mut Value) {}
    /// Before create: clears what users may not set. Status is cleared generically where there is a status subresource.
    fn prepare_create(_object: &mut Value, _context: &WriteContext) {}
    /// Before update: keeps what users may not change. Status is kept generically.
    fn prepare_update(_new: &mut Value, _old: &Value, _context: &WriteContext) {}
    /// Before an update through a `Part` subresource, after the part was merged.
    fn prepare_part(_subresource: &str, _new: &mut Value, _old: &Value, _context: &WriteContext) {}
    /// Everything upstream's validation would refuse, beyond what the schema says; metadata is checked generically.
    fn validate(_new: &Value, _old: Option<&Value>) -> FieldErrors {
        FieldErrors::new()
    }
    /// The same for a `Part` subresource.
    fn validate_part(_subresource: &str, _new: &Value, _old: &Value) -> FieldErrors {
        FieldErrors::new()
    }
    /// Warnings sent to the client in Warning headers.
    fn warnings(_new: &Value, _old: Option<&Value>) -> Vec<String> {
        Vec::new()
    }
    /// Seconds of grace this object gets before it goes when asked to be deleted (`asked`: the
    /// DeleteOptions' gracePeriodSeconds); `None`: it goes at once (Pods override this).
    fn grace(_object: &Value, _asked: Option<i64>) -> Option<i64> {
        None
    }
    /// After the object was marked as being deleted (a Namespace's phase becomes Terminating).
    fn prepare_delete(_object: &mut Value) {}
    /// Whether something besides metadata.finalizers keeps a deleted object (a Namespace's spec.finalizers).
    fn held(_object: &Value) -> bool {
        false
    }
}

/// What the server works with: a built-in or a custom resource.
pub trait AnyResource: Send + Sync {
    fn names(&self) -> &Names;
    /// Where its objects are kept: several versions, even of several groups, may serve what is stored once.
    fn stored_as(&self) -> GroupResource {
        self.names().resource()
    }
    /// How what is stored becomes what is served; `None`: it is what is served.
    fn versions(&self) -> Option<&dyn Versions> {
        None
    }
    /// The OpenAPI v3 schema as its author wrote it (custom resources, and what upstream serves by other servers).
    fn document(&self) -> Option<Arc<Value>> {
        None
    }
    /// Whether clients may send strategic merge patches.
    fn strategic_patches(&self) -> bool {
        true
    }
    /// Whether new objects are refused because the kind itself is going.
    fn is_terminating(&self) -> bool {
        false
    }
    /// What clients of this version are warned of.
    fn deprecation(&self) -> Option<&str> {
        None
    }
    /// Whether its objects are worked out when somebody asks, and never stored.
    fn computed(&self) -> bool {
        false
    }
    fn scope(&self) -> ResourceScope;
    fn schema(&self) -> SchemaRef;
    fn columns(&self) -> Vec<TableColumn>;
    fn name_rule(&self) -> NameRule;
    fn verbs(&self) -> &[&'static str];
    fn subresources(&self) -> &[Subresource];
    fn fields(&self) -> &[Field];
    fn generation(&self) -> bool;
    fn create_on_update(&self) -> bool;
    fn unconditional_update(&self) -> bool;
    fn orphans_by_default(&self) -> bool;
    fn status_on_create(&self) -> bool {
        false
    }
    fn returns_deleted(&self) -> bool {
        false
    }
    fn default(&self, object: &mut Value);
    fn prepare_create(&self, object: &mut Value, context: &WriteContext);
    fn prepare_update(&self, new: &mut Value, old: &Value, context: &WriteContext);
    fn prepare_part(&self, subresource: &str, new: &mut Value, old: &Value, context: &WriteContext);
    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors;
    fn validate_part(&self, subresource: &str, new: &Value, old: &Value) -> FieldErrors;
    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String>;
    fn grace(&self, object: &Value, asked: Option<i64>) -> Option<i64>;
    fn prepare_delete(&self, object: &mut Value);
    fn held(&self, object: &Value) -> bool;

    fn namespaced(&self) -> bool {
        self.scope() == ResourceScope::Namespaced
    }
    fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources().iter().find(|s| s.name == name)
    }
    fn has_status(&self) -> bool {
        self.subresource("status").is_some()
    }
}

impl<R: Resource> AnyResource for R {
    fn names(&self) -> &Names {
        const { &R::NAMES }
    }
    fn stored_as(&self) -> GroupResource {
        R::STORED_AS.map_or_else(|| R::NAMES.resource(), |(group, plural)| GroupResource::new(group, plural))
    }
    fn versions(&self) -> Option<&dyn Versions> {
        R::VERSIONS
    }
    fn deprecation(&self) -> Option<&str> {
        R::DEPRECATION
    }
    fn computed(&self) -> bool {
        R::COMPUTED
    }
    fn document(&self) -> Option<Arc<Value>> {
        R::written().map(|written| written.document.clone())
    }
    fn scope(&self) -> ResourceScope {
        R::SCOPE
    }
    fn schema(&self) -> SchemaRef {
        if let Some(written) = R::written() {
            return written.schema.clone();
        }
        let names = &R::NAMES;
        api_schema::builtin::for_kind(&names.group, &names.version, &names.kind).expect("every built-in kind has a generated schema")
    }
    fn columns(&self) -> Vec<TableColumn> {
        let own = R::COLUMNS;
        if R::OWN_COLUMNS {
            return own.iter().copied().map(TableColumn::from).collect();
        }
        let (narrow, wide) = own.split_at(own.iter().position(|c| c.priority > 0).unwrap_or(own.len()));
        let all = [&[Column::NAME][..], narrow, &[Column::AGE][..], wide].concat();
        all.into_iter().map(TableColumn::from).collect()
    }
    fn name_rule(&self) -> NameRule {
        R::NAME_RULE
    }
    fn verbs(&self) -> &[&'static str] {
        R::VERBS
    }
    fn subresources(&self) -> &[Subresource] {
        R::SUBRESOURCES
    }
    fn fields(&self) -> &[Field] {
        R::FIELDS
    }
    fn generation(&self) -> bool {
        R::GENERATION
    }
    fn create_on_update(&self) -> bool {
        R::CREATE_ON_UPDATE
    }
    fn unconditional_update(&self) -> bool {
        R::UNCONDITIONAL_UPDATE
    }
    fn orphans_by_default(&self) -> bool {
        R::ORPHANS_BY_DEFAULT
    }
    fn status_on_create(&self) -> bool {
        R::STATUS_ON_CREATE
    }
    fn returns_deleted(&self) -> bool {
        R::RETURNS_DELETED
    }
    fn default(&self, object: &mut Value) {
        R::default(object);
    }
    fn prepare_create(&self, object: &mut Value, context: &WriteContext) {
        R::prepare_create(object, context);
    }
    fn prepare_update(&self, new: &mut Value, old: &Value, context: &WriteContext) {
        R::prepare_update(new, old, context);
    }
    fn prepare_part(&self, subresource: &str, new: &mut Value, old: &Value, context: &WriteContext) {
        R::prepare_part(subresource, new, old, context);
    }
    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        R::validate(new, old)
    }
    fn validate_part(&self, subresource: &str, new: &Value, old: &Value) -> FieldErrors {
        R::validate_part(subresource, new, old)
    }
    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        R::warnings(new, old)
    }
    fn grace(&self, object: &Value, asked: Option<i64>) -> Option<i64> {
        R::grace(object, asked)
    }
    fn prepare_delete(&self, object: &mut Value) {
        R::prepare_delete(object);
    }
    fn held(&self, object: &Value) -> bool {
        R::held(object)
    }
}

/// A field path constant helper for validations.
pub fn spec() -> FieldPath {
    FieldPath::new("spec")
}
