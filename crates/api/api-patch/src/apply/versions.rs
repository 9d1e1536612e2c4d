//! Versions: managers write through different versions of a kind, and each owns fields of its own version.
use super::compare::{Comparison, compare};
use super::fields::{Fields, intersection, subtract};
use super::managed::Entry;
use super::writer::{Writer, strip_identity};
use api_schema::{Schema, SchemaRef};
use serde_json::Value;
use std::collections::HashMap;

/// The other versions of a kind.
pub trait OtherVersions {
    /// The schema of a version; `None` when the kind has no such version (any more).
    fn schema(&self, api_version: &str) -> Option<SchemaRef>;
    /// The object as one of another version; `None` when that can't be.
    fn view(&self, object: &Value, api_version: &str) -> Option<Value>;
}

/// What a write changes, as each version sees it.
pub(crate) struct Changes<'a> {
    old: Option<&'a Value>,
    new: &'a Value,
    own: &'a str,
    versions: Option<&'a dyn OtherVersions>,
    writer: &'a Writer<'a>,
    seen: HashMap<String, Option<Comparison>>,
}

impl<'a> Changes<'a> {
    /// `comparison`: what changes in the writer's own version.
    pub fn new(
        old: Option<&'a Value>,
        new: &'a Value,
        own: &'a str,
        comparison: Comparison,
        versions: Option<&'a dyn OtherVersions>,
        writer: &'a Writer,
    ) -> Self {
        Self { old, new, own, versions, writer, seen: HashMap::from([(own.to_owned(), Some(comparison))]) }
    }

    /// What changes in a version; `None` when there is no such version.
    pub fn of(&mut self, api_version: &str) -> Option<&Comparison> {
        // Without knowledge of others every manager is taken to speak of this version.
        let version = if self.versions.is_some() { api_version } else { self.own };
        if !self.seen.contains_key(version) {
            let made = self.compared(version);
            self.seen.insert(version.to_owned(), made);
        }
        self.seen[version].as_ref()
    }

    fn compared(&self, version: &str) -> Option<Comparison> {
        let versions = self.versions?;
        let schema = versions.schema(version)?;
        let old = match self.old {
            Some(old) => Some(versions.view(old, version)?),
            None => None,
        };
        let mut comparison = compare(old.as_ref(), &versions.view(self.new, version)?, &schema);
        for set in [&mut comparison.changed, &mut comparison.removed] {
            strip_identity(set);
            self.writer.strip_reset(set);
        }
        Some(comparison)
    }

    /// Takes from every owner what the write changes or removes. Who owns fields of a version that is gone owns nothing.
    pub fn dispossess(&mut self, entries: &mut Vec<Entry>) {
        entries.retain_mut(|entry| {
            let Some(comparison) = self.of(&entry.api_version) else { return false };
            subtract(&mut entry.fields, &comparison.changed, false);
            subtract(&mut entry.fields, &comparison.removed, false);
            true
        });
    }

    /// The fields of an owner that the write changes.
    pub fn contested(&mut self, entry: &Entry) -> Fields {
        self.of(&entry.api_version).map(|comparison| intersection(&entry.fields, &comparison.changed)).unwrap_or_default()
    }
}

/// An object in another version than it may be in, and that version's schema; `schema` is that of the version `own`.
pub(crate) fn seen_in<'a>(
    versions: Option<&dyn OtherVersions>,
    object: &Value,
    api_version: &str,
    own: &str,
    schema: &'a Schema,
) -> Option<(Value, Known<'a>)> {
    // Without knowledge of others all is taken to be of this version.
    let Some(versions) = versions else { return Some((object.clone(), Known::Own(schema))) };
    let known = if api_version == own { Known::Own(schema) } else { Known::Other(versions.schema(api_version)?) };
    let is_there = object.get("apiVersion").and_then(Value::as_str) == Some(api_version);
    Some((if is_there { object.clone() } else { versions.view(object, api_version)? }, known))
}

/// A schema at hand or looked up.
pub(crate) enum Known<'a> {
    Own(&'a Schema),
    Other(SchemaRef),
}

impl std::ops::Deref for Known<'_> {
    type Target = Schema;
    fn deref(&self) -> &Schema {
        match self {
            Self::Own(schema) => schema,
            Self::Other(schema) => schema,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{OtherVersions, Writer, apply_among, track_update_among};
    use api_schema::{Schema, SchemaRef};
    use serde_json::{Value, json};

    /// `spec.size` in v1 is `spec.weight` in v2.
    struct Two;

    fn field(api_version: &str) -> &'static str {
        if api_version == "e/v1" { "size" } else { "weight" }
    }

    impl OtherVersions for Two {
        fn schema(&self, api_version: &str) -> Option<SchemaRef> {
            let field = field(api_version);
            let known = matches!(api_version, "e/v1" | "e/v2");
            let properties = json!({"spec": {"type": "object", "properties": {field: {"type": "integer"}, "color": {"type": "string"}}}});
            known.then(|| SchemaRef::new(Schema::from_open_api(&json!({"type": "object", "properties": properties})).unwrap()))
        }
        fn view(&self, object: &Value, api_version: &str) -> Option<Value> {
            let mut object = object.clone();
            let from = field(object["apiVersion"].as_str()?);
            object["apiVersion"] = api_version.into();
            if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut)
                && let Some(value) = spec.remove(from)
            {
                spec.insert(field(api_version).into(), value);
            }
            Some(object)
        }
    }

    fn writer(manager: &str) -> Writer<'_> {
        Writer { manager, subresource: "", reset: &[], now: jiff::Timestamp::UNIX_EPOCH }
    }

    fn applied(live: Option<&Value>, manager: &str, version: &str, spec: Value) -> Result<Value, api_meta::Status> {
        let wanted = json!({"apiVersion": version, "kind": "W", "metadata": {"name": "w"}, "spec": spec});
        let live = live.map(|live| Two.view(live, version).unwrap());
        apply_among(live.as_ref(), &wanted, &Two.schema(version).unwrap(), &writer(manager), false, Some(&Two))
    }

    fn owners(object: &Value) -> Vec<String> {
        let entries = object["metadata"]["managedFields"].as_array().into_iter().flatten();
        entries.map(|e| format!("{} {} {}", e["manager"].as_str().unwrap(), e["apiVersion"].as_str().unwrap(), e["fieldsV1"])).collect()
    }

    #[test]
    fn what_one_version_owns_others_conflict_with_in_theirs() {
        let live = applied(None, "one", "e/v1", json!({"size": 1})).unwrap();
        let refused = applied(Some(&live), "two", "e/v2", json!({"weight": 2})).unwrap_err();
        assert_eq!(refused.message, "Apply failed with 1 conflict: conflict with \"one\": .spec.size");
        let shared = applied(Some(&live), "two", "e/v2", json!({"weight": 1, "color": "red"})).unwrap();
        assert_eq!(owners(&shared), [r#"one e/v1 {"f:spec":{"f:size":{}}}"#, r#"two e/v2 {"f:spec":{"f:color":{},"f:weight":{}}}"#]);
        // What two no longer asks for goes, but not what one owns in its own version.
        let less = applied(Some(&shared), "two", "e/v2", json!({})).unwrap();
        assert_eq!(less["spec"], json!({"weight": 1}));
        // The same applier may go on in another version.
        let moved = applied(Some(&shared), "two", "e/v1", json!({"size": 1})).unwrap();
        assert_eq!(moved["spec"], json!({"size": 1}));
    }

    #[test]
    fn an_update_takes_from_owners_in_other_versions() {
        let live = Two.view(&applied(None, "one", "e/v1", json!({"size": 1, "color": "red"})).unwrap(), "e/v2").unwrap();
        let mut new = live.clone();
        new["spec"]["weight"] = 5.into();
        track_update_among(Some(&live), &mut new, &Two.schema("e/v2").unwrap(), &writer("hand"), Some(&Two));
        assert_eq!(owners(&new), [r#"one e/v1 {"f:spec":{"f:color":{}}}"#, r#"hand e/v2 {"f:spec":{"f:weight":{}}}"#]);
    }
}
