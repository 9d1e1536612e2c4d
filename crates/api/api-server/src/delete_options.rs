//! DeleteOptions: how an object is to be deleted, from the request's body and its query.
use crate::context::Context;
use crate::{decode, errors, metadata};
use api_meta::{FieldError, FieldPath, Status};
use api_resource::AnyResource;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeleteOptions {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace_period_seconds: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preconditions: Option<Preconditions>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub orphan_dependents: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub propagation_policy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<Vec<String>>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Preconditions {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<String>,
}

const KIND: &str = decode::DELETE_OPTIONS;

impl DeleteOptions {
    pub fn read(context: &Context, body: &Bytes) -> Result<Self, Status> {
        let text = decode::json_text(context, body)?;
        let mut options = if text.iter().all(u8::is_ascii_whitespace) { Self::default() } else { Self::of(decode::foreign(&text, ("", "v1", KIND))?)? };
        let query = context.query;
        if let Some(seconds) = query.integer("gracePeriodSeconds")? {
            options.grace_period_seconds = Some(seconds);
        }
        if let Some(policy) = query.value("propagationPolicy") {
            options.propagation_policy = Some(policy.into());
        }
        if query.get("orphanDependents").is_some() {
            options.orphan_dependents = Some(query.flag("orphanDependents"));
        }
        options.checked()
    }

    /// From a decoded object, e.g. the one inside an Eviction.
    pub fn of(value: Value) -> Result<Self, Status> {
        let options: Self = serde_json::from_value(value).map_err(|error| Status::bad_request(format!("error decoding {KIND}: {error}")))?;
        options.checked()
    }

    fn checked(mut self) -> Result<Self, Status> {
        let path = FieldPath::new("propagationPolicy");
        let invalid = |error| Err(errors::options(KIND, error));
        if let Some(policy) = &self.propagation_policy {
            if self.orphan_dependents.is_some() {
                return invalid(FieldError::invalid(&path, policy.as_str(), "orphanDependents and deletionPropagation cannot be both set"));
            }
            if !matches!(policy.as_str(), "Foreground" | "Background" | "Orphan") {
                return invalid(FieldError::not_supported(&path, policy.as_str(), &["Foreground", "Background", "Orphan", "nil"]));
            }
        }
        if let Some(other) = self.dry_run.iter().flatten().find(|value| *value != "All") {
            return invalid(FieldError::not_supported(&FieldPath::new("dryRun"), other.as_str(), &["All"]));
        }
        // Upstream takes less than nothing for a second.
        self.grace_period_seconds = self.grace_period_seconds.map(|seconds| if seconds < 0 { 1 } else { seconds });
        Ok(self)
    }

    pub fn is_dry_run(&self) -> bool {
        self.dry_run.as_ref().is_some_and(|values| !values.is_empty())
    }

    /// What is to become of the object's dependants; `None` when the object's kind decides.
    pub fn policy(&self) -> Option<&str> {
        self.propagation_policy.as_deref().or(match self.orphan_dependents {
            Some(true) => Some("Orphan"),
            Some(false) => Some("Background"),
            None => None,
        })
    }

    /// Refuses to delete another object, or another state of it, than the one meant.
    pub fn check(&self, kind: &dyn AnyResource, name: &str, object: &Value) -> Result<(), Status> {
        let names = kind.names();
        let wanted = self.preconditions.clone().unwrap_or_default();
        let check = |what: &str, wanted: Option<String>, field: &str, happened: &str| match wanted {
            Some(wanted) if wanted != metadata::text(object, field) => {
                let is = metadata::text(object, field);
                let why =
                    format!("the {what} in the precondition ({wanted}) does not match the {what} in record ({is}). The object might have been {happened}");
                Err(Status::conflict(&names.group, &names.kind, name, why))
            }
            _ => Ok(()),
        };
        check("UID", wanted.uid, "uid", "deleted and then recreated")?;
        check("ResourceVersion", wanted.resource_version, "resourceVersion", "modified")
    }

    /// As admission sees them.
    pub fn to_value(&self) -> Value {
        let mut value = serde_json::to_value(self).unwrap_or_default();
        value["kind"] = KIND.into();
        value["apiVersion"] = json!("meta.k8s.io/v1");
        value
    }
}
