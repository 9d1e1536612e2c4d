//! CustomResource: one served version of a custom kind.
use crate::column::columns;
use crate::definition::{AcceptedNames, PrinterColumn, Scale, Spec, SpecVersion};
use crate::embedded;
use crate::family::{Family, Member};
use api_meta::{FieldError, FieldErrorKind, FieldErrors, FieldPath};
use api_resource::{
    ALL_VERBS, AnyResource, Field, NameRule, Names, ResourceScope, Subresource, SubresourceKind, TableColumn, Text, Versions, WebhookConversion, WriteContext,
    at_path,
};
use api_schema::SchemaRef;
use serde_json::Value;
use std::borrow::Cow;
use std::sync::Arc;

/// Of a kind that is going.
const LEFT_VERBS: &[&str] = &["delete", "deletecollection", "get", "list", "watch"];
const READ_WRITE: &[&str] = &["get", "patch", "update"];

const NOT_CHECKED: &str = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";

pub struct CustomResource {
    names: Names,
    scope: ResourceScope,
    terminating: bool,
    subresources: Vec<Subresource>,
    scale: Option<Scale>,
    fields: Vec<Field>,
    printed: Vec<PrinterColumn>,
    deprecation: Option<String>,
    family: Arc<Family>,
    index: usize,
}

impl CustomResource {
    pub(crate) fn new(spec: &Spec, index: usize, version: &SpecVersion, names: &AcceptedNames, terminating: bool, family: Arc<Family>) -> Self {
        let text = |text: &str| -> Text { Cow::Owned(text.to_owned()) };
        let texts = |list: &[String]| -> Cow<'static, [Text]> { Cow::Owned(list.iter().map(|one| text(one)).collect()) };
        let singular = if names.singular.is_empty() { names.kind.to_lowercase() } else { names.singular.clone() };
        let list = Some(&names.list_kind).filter(|list| !list.is_empty());
        let asked = version.subresources.as_ref();
        let scale = asked.and_then(|asked| asked.scale.clone());
        let mut subresources = Vec::new();
        if asked.is_some_and(|asked| asked.status.as_ref().is_some_and(|status| !status.is_null())) {
            subresources.push(Subresource { name: "status", kind: SubresourceKind::Part(status_part), speaks: ("", "", ""), verbs: READ_WRITE });
        }
        if let Some(scale) = &scale {
            let kind = SubresourceKind::Scale {
                replicas: text(&scale.spec_replicas_path),
                status_replicas: text(&scale.status_replicas_path),
                selector: text(scale.label_selector_path.as_deref().unwrap_or_default()),
            };
            subresources.push(Subresource { name: "scale", kind, speaks: ("autoscaling", "v1", "Scale"), verbs: READ_WRITE });
        }
        let fields = version.selectable_fields.iter().flatten();
        let own_version = format!("{}/{}", spec.group, version.name);
        let deprecation =
            version.deprecated.then(|| version.deprecation_warning.clone().unwrap_or_else(|| format!("{own_version} {} is deprecated", spec.names.kind)));
        Self {
            names: Names {
                group: text(&spec.group),
                version: text(&version.name),
                kind: text(&names.kind),
                plural: text(&spec.names.plural),
                singular: Cow::Owned(singular),
                short: texts(&names.short_names),
                categories: texts(&names.categories),
                list: list.map(|list| text(list)),
            },
            scope: if spec.scope == "Namespaced" { ResourceScope::Namespaced } else { ResourceScope::Cluster },
            terminating,
            subresources,
            scale,
            fields: fields.map(|field| Field { path: text(field.json_path.trim_start_matches('.')), value_paths: &[], absent: "" }).collect(),
            printed: version.additional_printer_columns.clone().unwrap_or_default(),
            deprecation,
            family,
            index,
        }
    }

    fn member(&self) -> &Member {
        &self.family.members[self.index]
    }

    /// Whether writes are stored in this version.
    pub fn is_storage(&self) -> bool {
        self.member().api_version == self.family.storage
    }

    /// Whether what one of the two shows in a watch is what the other would show.
    pub fn serves_like(&self, other: &Self) -> bool {
        // Equal families are one and the same: see `Definition::read`.
        Arc::ptr_eq(&self.family, &other.family)
            && self.names.kind == other.names.kind
            && self.scope == other.scope
            && self.fields == other.fields
            && self.index == other.index
    }

    /// Everything wrong with an object: with its values, its lists, what is embedded in it.
    ///
    /// An update is not held to account for what it leaves as it was.
    fn check(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let schema = self.member().schema();
        let root = FieldPath::root();
        let mut errors = match old {
            Some(old) => api_schema::validate_update(new, old, schema, &root),
            None => api_schema::validate(new, schema, &root),
        };
        errors.extend(embedded::check(new, old, schema, self.member().document()));
        let rules = self.member().rules();
        if !rules.is_empty() {
            if errors.iter().any(blocks_rules) {
                errors.push(FieldError::invalid(&root, "null", NOT_CHECKED));
            } else {
                errors.extend(rules.validate(new, old).errors);
            }
        }
        if let Some(scale) = &self.scale {
            for path in [&scale.spec_replicas_path, &scale.status_replicas_path] {
                let Some(replicas) = at_path(new, path).and_then(Value::as_i64) else { continue };
                let at = FieldPath::new(path);
                if replicas < 0 {
                    errors.push(FieldError::invalid(&at, replicas, "should be a non-negative integer"));
                } else if replicas > i64::from(i32::MAX) {
                    errors.push(FieldError::invalid(&at, replicas, format!("should be less than or equal to {}", i32::MAX)));
                }
            }
        }
        errors
    }
}

/// Whether an object is too wrong to ask rules about: they rely on types and sizes.
fn blocks_rules(error: &FieldError) -> bool {
    use FieldErrorKind::{Required, TooLong, TooMany, TypeInvalid};
    matches!(error.kind, Required | TooLong | TooMany | TypeInvalid)
}

/// Whether clients would see no difference.
impl PartialEq for CustomResource {
    fn eq(&self, other: &Self) -> bool {
        let columns = |r: &Self| -> Vec<_> {
            r.printed.iter().map(|c| (c.name.clone(), c.kind.clone(), c.format.clone(), c.description.clone(), c.priority, c.json_path.clone())).collect()
        };
        let subresources = |r: &Self| -> Vec<String> { r.subresources.iter().map(|s| format!("{} {:?}", s.name, scale_paths(s))).collect() };
        self.serves_like(other)
            && self.names == other.names
            && (self.terminating, &self.deprecation) == (other.terminating, &other.deprecation)
            && subresources(self) == subresources(other)
            && columns(self) == columns(other)
    }
}

fn scale_paths(subresource: &Subresource) -> Vec<&str> {
    match &subresource.kind {
        SubresourceKind::Scale { replicas, status_replicas, selector } => vec![replicas, status_replicas, selector],
        _ => Vec::new(),
    }
}

/// `/status` of a custom resource: nothing but the status is taken from what was sent.
fn status_part(stored: &Value, sent: &Value) -> Value {
    let mut merged = stored.clone();
    let mut copy = |place: Option<&str>, key: &str| {
        let from = place.map_or(Some(sent), |place| sent.get(place)).and_then(|from| from.get(key));
        let to = match place {
            Some(place) => &mut merged[place],
            None => &mut merged,
        };
        match from {
            Some(value) => to[key] = value.clone(),
            None => {
                to.as_object_mut().map(|to| to.remove(key));
            }
        }
    };
    copy(None, "status");
    // Who owns what has changed with it; version and uid are the writer's preconditions.
    ["managedFields", "resourceVersion", "uid"].into_iter().for_each(|key| copy(Some("metadata"), key));
    merged
}

impl AnyResource for CustomResource {
    fn names(&self) -> &Names {
        &self.names
    }
    fn versions(&self) -> Option<&dyn Versions> {
        Some(self)
    }
    fn document(&self) -> Option<Arc<Value>> {
        Some(self.member().document().clone())
    }
    fn strategic_patches(&self) -> bool {
        false
    }
    fn is_terminating(&self) -> bool {
        self.terminating
    }
    fn deprecation(&self) -> Option<&str> {
        self.deprecation.as_deref()
    }
    fn scope(&self) -> ResourceScope {
        self.scope
    }
    fn schema(&self) -> SchemaRef {
        self.member().schema().clone()
    }
    fn columns(&self) -> Vec<TableColumn> {
        columns(&self.printed)
    }
    fn name_rule(&self) -> NameRule {
        NameRule::Subdomain
    }
    fn verbs(&self) -> &[&'static str] {
        if self.terminating { LEFT_VERBS } else { ALL_VERBS }
    }
    fn subresources(&self) -> &[Subresource] {
        &self.subresources
    }
    fn fields(&self) -> &[Field] {
        &self.fields
    }
    fn generation(&self) -> bool {
        true
    }
    fn create_on_update(&self) -> bool {
        false
    }
    fn unconditional_update(&self) -> bool {
        false
    }
    fn orphans_by_default(&self) -> bool {
        false
    }
    fn returns_deleted(&self) -> bool {
        false
    }
    fn default(&self, object: &mut Value) {
        api_schema::apply_defaults(object, self.member().schema());
    }
    fn prepare_create(&self, object: &mut Value, _: &WriteContext) {
        // Whoever creates an object brings no status, but the schema may.
        api_schema::apply_defaults(object, self.member().schema());
    }
    fn prepare_update(&self, _: &mut Value, _: &Value, _: &WriteContext) {}
    fn prepare_part(&self, _: &str, _: &mut Value, _: &Value, _: &WriteContext) {}
    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        self.check(new, old)
    }
    fn validate_part(&self, _: &str, new: &Value, old: &Value) -> FieldErrors {
        self.check(new, Some(old))
    }
    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        // Of a rule that was broken before in what has not changed: see `check`.
        old.map(|old| self.member().rules().validate(new, Some(old)).warnings).unwrap_or_default()
    }
    fn grace(&self, _: &Value, _: Option<i64>) -> Option<i64> {
        None
    }
    fn prepare_delete(&self, _: &mut Value) {}
    fn held(&self, _: &Value) -> bool {
        false
    }
}

impl Versions for CustomResource {
    fn storage(&self) -> &str {
        &self.family.storage
    }
    fn convert(&self, mut object: Value, to: &str) -> Result<Value, String> {
        object["apiVersion"] = to.into();
        if let Some(member) = self.family.member(to) {
            api_schema::prune(&mut object, member.schema());
        }
        Ok(object)
    }
    fn webhook(&self) -> Option<&WebhookConversion> {
        self.family.webhook.as_ref()
    }
    fn schema_of(&self, api_version: &str) -> Option<SchemaRef> {
        self.family.member(api_version).map(|member| member.schema().clone())
    }
    fn settle(&self, object: &mut Value) {
        let Some(member) = object["apiVersion"].as_str().and_then(|version| self.family.member(version)) else { return };
        let schema = member.schema();
        api_schema::prune(object, schema);
        api_schema::apply_defaults(object, schema);
    }
    fn settled_since(&self) -> u64 {
        self.family.since
    }
    fn settled_by(&self) -> u64 {
        self.member().hash
    }
}
