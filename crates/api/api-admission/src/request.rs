//! AdmissionRequest: all that an admission plugin sees of a request, and may change of it.
use crate::Host;
use crate::reinvocation::Reinvocation;
use api_auth::User;
use api_meta::{ClusterName, GroupResource, Status};
use jiff::Timestamp;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

impl Operation {
    /// As admission reviews spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }
}

/// `namespace` is "" for cluster-scoped resources, except that it is the name for Namespaces
/// themselves, as upstream has it. `name` may be "" on create (generateName) and deletecollection.
pub struct AdmissionRequest<'a> {
    pub cluster: &'a ClusterName,
    pub operation: Operation,
    pub group: &'a str,
    pub version: &'a str,
    pub kind: &'a str,
    /// The kind's group and version.
    pub kind_group_version: (&'a str, &'a str),
    pub resource: &'a str,
    pub subresource: &'a str,
    pub namespace: &'a str,
    pub name: &'a str,
    /// The object as it shall be; `None` on delete.
    pub object: Option<Value>,
    /// The object as it is; `None` on create.
    pub old: Option<&'a Value>,
    pub options: &'a Value,
    pub user: &'a User,
    pub dry_run: bool,
    /// For the client's Warning headers.
    pub warnings: Vec<String>,
    /// What webhooks and policies note for the audit log.
    pub annotations: BTreeMap<String, String>,
    pub now: Timestamp,
    pub host: &'a dyn Host,
    pub(crate) reinvocation: Reinvocation,
}

/// What a request is about and who makes it; the rest of an [`AdmissionRequest`] is filled in after.
pub struct About<'a> {
    pub cluster: &'a ClusterName,
    /// Of the resource.
    pub group: &'a str,
    pub version: &'a str,
    pub resource: &'a str,
    pub subresource: &'a str,
    pub namespace: &'a str,
    pub name: &'a str,
    pub user: &'a User,
    pub now: Timestamp,
    pub host: &'a dyn Host,
    /// Of the objects, which a subresource may speak another of.
    pub kind: (&'a str, &'a str, &'a str),
}

impl<'a> AdmissionRequest<'a> {
    pub fn new(about: About<'a>, operation: Operation, object: Option<Value>, old: Option<&'a Value>, options: &'a Value, dry_run: bool) -> Self {
        let About { cluster, group, version, resource, subresource, namespace, name, user, now, host, kind } = about;
        Self {
            cluster,
            operation,
            group,
            version,
            kind: kind.2,
            kind_group_version: (kind.0, kind.1),
            resource,
            subresource,
            namespace,
            name,
            object,
            old,
            options,
            user,
            dry_run,
            warnings: Vec::new(),
            annotations: BTreeMap::new(),
            now,
            host,
            reinvocation: Reinvocation::default(),
        }
    }
}

impl AdmissionRequest<'_> {
    /// Whether the request is for this resource itself, not for a subresource.
    pub fn is(&self, group: &str, resource: &str) -> bool {
        self.is_part(group, resource, "")
    }
    /// Whether the request is for this subresource.
    pub fn is_part(&self, group: &str, resource: &str, subresource: &str) -> bool {
        self.group == group && self.resource == resource && self.subresource == subresource
    }
    pub fn group_resource(&self) -> GroupResource {
        GroupResource::new(self.group, self.resource)
    }
    /// The new object; null when there is none.
    pub fn object(&self) -> &Value {
        self.object.as_ref().unwrap_or(&Value::Null)
    }
    pub(crate) fn group_of_kind(&self) -> &str {
        self.kind_group_version.0
    }
    pub(crate) fn version_of_kind(&self) -> &str {
        self.kind_group_version.1
    }
    /// The name webhooks and policies are told: the object's own when the path has none.
    pub(crate) fn review_name(&self) -> &str {
        if self.name.is_empty() { self.object()["metadata"]["name"].as_str().unwrap_or_default() } else { self.name }
    }
    /// The namespace they are told: a Namespace that exists is in itself, as upstream has it.
    pub(crate) fn review_namespace(&self) -> &str {
        let about_namespaces = self.group.is_empty() && self.resource == "namespaces";
        if about_namespaces && self.operation != Operation::Create { self.name } else { self.namespace }
    }
    /// Notes something for the audit log, under the name of who says it.
    pub(crate) fn annotate(&mut self, by: &str, notes: impl IntoIterator<Item = (String, String)>) {
        self.annotations.extend(notes.into_iter().map(|(key, value)| (format!("{by}/{key}"), value)));
    }
    /// The old object; null when there is none.
    pub fn old(&self) -> &Value {
        self.old.unwrap_or(&Value::Null)
    }
    /// `spec` of the new object, made when it is missing.
    pub(crate) fn spec_mut(&mut self) -> &mut Map<String, Value> {
        let object = self.object.get_or_insert_with(|| Value::Object(Map::new()));
        entry_object(object, "spec")
    }
    /// `metadata` of the new object, made when it is missing.
    pub(crate) fn metadata_mut(&mut self) -> &mut Map<String, Value> {
        let object = self.object.get_or_insert_with(|| Value::Object(Map::new()));
        entry_object(object, "metadata")
    }
    /// The name, or `Unknown` when the server has yet to make one, in refusals as upstream words them.
    pub(crate) fn display_name(&self) -> &str {
        if !self.name.is_empty() {
            return self.name;
        }
        // A name is generated after all that may change the object.
        let text = |field: &str| self.object()["metadata"][field].as_str().filter(|name| !name.is_empty());
        text("name").or_else(|| text("generateName")).unwrap_or("Unknown")
    }
    /// 403: `pods "x" is forbidden: WHY`.
    pub(crate) fn forbidden(&self, why: impl fmt::Display) -> Status {
        Status::forbidden(self.group, self.resource, self.display_name(), why)
    }
}

/// The object under `key`, put there when there is none.
pub(crate) fn entry_object<'a>(value: &'a mut Value, key: &str) -> &'a mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    let slot = &mut value[key];
    if !slot.is_object() {
        *slot = Value::Object(Map::new());
    }
    slot.as_object_mut().expect("it was just made one")
}

/// The list under `key`, put there when there is none.
pub(crate) fn entry_list<'a>(map: &'a mut Map<String, Value>, key: &str) -> &'a mut Vec<Value> {
    let slot = map.entry(key).or_insert_with(|| Value::Array(Vec::new()));
    if !slot.is_array() {
        *slot = Value::Array(Vec::new());
    }
    slot.as_array_mut().expect("it was just made one")
}

/// The items of a list; none when it isn't one.
pub(crate) fn items(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}
