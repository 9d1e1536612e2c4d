//! The suite: one valid manifest of a kind, and what each change to it is told.
use api_builtins::find;
use api_meta::FieldErrors;
use api_resource::{AnyResource, WriteContext};
use serde_json::{Value, json};

pub struct Suite {
    resource: &'static dyn AnyResource,
    valid: Value,
}

pub fn context<T>(work: impl FnOnce(&WriteContext) -> T) -> T {
    let groups = ["system:authenticated".to_owned()];
    work(&WriteContext { now: "2026-01-01T00:00:00Z".parse().unwrap(), username: "jane", user_uid: "", groups: &groups })
}

impl Suite {
    /// A kind (`"apps/v1"`, `"deployments"`) and a manifest of it that has to be accepted.
    pub fn new(api_version: &str, plural: &str, mut valid: Value) -> Self {
        let (group, version) = api_meta::split_api_version(api_version);
        let resource = find(group, version, plural).unwrap();
        valid["apiVersion"] = api_version.into();
        valid["kind"] = (*resource.names().kind).into();
        if valid["metadata"]["name"].is_null() {
            valid["metadata"]["name"] = "it".into();
        }
        if resource.namespaced() {
            valid["metadata"]["namespace"] = "default".into();
        }
        let suite = Self { resource, valid };
        let (created, errors) = suite.created(&json!({}));
        assert_eq!(texts(&errors), Vec::<String>::new(), "{plural}");
        let mut again = created.clone();
        resource.default(&mut again);
        assert_eq!(again, created, "defaulting {plural} twice gives what once gives");
        let mut updated = created.clone();
        context(|context| resource.prepare_update(&mut updated, &created, context));
        assert_eq!(texts(&resource.validate(&updated, Some(&created))), Vec::<String>::new(), "an update of {plural} that changes nothing");
        suite
    }

    /// The valid manifest as it is stored.
    pub fn stored(&self) -> Value {
        self.created(&json!({})).0
    }

    /// A create of the manifest with a merge patch applied is refused with exactly these errors.
    pub fn refuses(&self, patch: Value, errors: &[&str]) -> &Self {
        assert_eq!(texts(&self.created(&patch).1), errors, "creating with {patch}");
        self
    }

    /// A create of the manifest with a merge patch applied is accepted.
    pub fn accepts(&self, patch: Value) -> &Self {
        self.refuses(patch, &[])
    }

    /// An update of the stored manifest with a merge patch is refused with exactly these errors.
    pub fn refuses_update(&self, patch: Value, errors: &[&str]) -> &Self {
        let old = self.stored();
        let mut new = old.clone();
        merge(&mut new, &patch);
        self.resource.default(&mut new);
        context(|context| self.resource.prepare_update(&mut new, &old, context));
        assert_eq!(texts(&self.resource.validate(&new, Some(&old))), errors, "updating with {patch}");
        self
    }

    fn created(&self, patch: &Value) -> (Value, FieldErrors) {
        let mut object = self.valid.clone();
        merge(&mut object, patch);
        self.resource.default(&mut object);
        object["metadata"]["uid"] = "00000000-0000-0000-0000-000000000001".into();
        if self.resource.has_status() {
            object.as_object_mut().unwrap().remove("status");
        }
        context(|context| self.resource.prepare_create(&mut object, context));
        let errors = self.resource.validate(&object, None);
        (object, errors)
    }
}

pub fn texts(errors: &FieldErrors) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

/// RFC 7386.
pub fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in fields {
        match value {
            Value::Null => drop(target.as_object_mut().unwrap().remove(key)),
            value => merge(&mut target[key], value),
        }
    }
}
