//! Tracking what a create, update or patch changes: the writer comes to own it, others lose it.
use super::compare::compare;
use super::fields::union;
use super::managed::{Entry, Operation, decode, encode};
use super::versions::{Changes, OtherVersions};
use super::writer::{Writer, strip_identity};
use api_schema::Schema;
use serde_json::{Map, Value};

/// Writes `metadata.managedFields` of `new` for a create (`old` absent), update or patch, but not for
/// an apply ([`super::apply`] does it itself).
///
/// As upstream: `managedFields: [{}]` in `new` clears them, a valid list replaces them, none keeps the
/// old ones; through a subresource the old ones always hold; an old object without them stays without.
pub fn track_update(old: Option<&Value>, new: &mut Value, schema: &Schema, writer: &Writer) {
    track_update_among(old, new, schema, writer, None);
}

/// [`track_update`] of a kind that is served in other versions too, whose managers own fields of theirs.
pub fn track_update_among(old: Option<&Value>, new: &mut Value, schema: &Schema, writer: &Writer, versions: Option<&dyn OtherVersions>) {
    let requested = take(new);
    let cleared = writer.subresource.is_empty() && requested.as_ref().is_some_and(|r| *r == Value::Array(vec![Value::Object(Map::new())]));
    if cleared && old.is_some() {
        return;
    }
    let live = || old.and_then(|o| o.get("metadata")?.get("managedFields")).cloned();
    let requested = requested.filter(|_| writer.subresource.is_empty() && !cleared);
    let mut entries = requested.map(decode).unwrap_or_default();
    if entries.is_empty() {
        entries = live().map(decode).unwrap_or_default();
    }
    if entries.is_empty() && old.is_some() {
        return;
    }

    let mut comparison = compare(old, new, schema);
    for set in [&mut comparison.changed, &mut comparison.removed] {
        strip_identity(set);
        writer.strip_reset(set);
    }
    entries.iter_mut().for_each(|entry| strip_identity(&mut entry.fields));
    let api_version = new.get("apiVersion").and_then(Value::as_str).unwrap_or_default().to_owned();
    let changed = if entries.is_empty() {
        // There is nobody yet to take it from.
        comparison.changed
    } else {
        let changed = comparison.changed.clone();
        Changes::new(old, new, &api_version, comparison, versions, writer).dispossess(&mut entries);
        changed
    };
    if !changed.is_empty() {
        add(&mut entries, writer.entry(Operation::Update, &api_version, changed));
    }
    put(new, encode(entries));
}

/// Gives an owner more fields, now.
pub(crate) fn add(entries: &mut Vec<Entry>, entry: Entry) {
    match entries.iter_mut().find(|e| e.is_same_owner(&entry)) {
        Some(owner) => {
            union(&mut owner.fields, &entry.fields);
            owner.time = entry.time;
        }
        None => entries.push(entry),
    }
}

pub(crate) fn take(object: &mut Value) -> Option<Value> {
    object.get_mut("metadata")?.as_object_mut()?.remove("managedFields")
}

pub(crate) fn put(object: &mut Value, managed: Option<Value>) {
    if let (Some(managed), Some(object)) = (managed, object.as_object_mut())
        && let Value::Object(metadata) = object.entry("metadata").or_insert_with(|| Value::Object(Map::new()))
    {
        metadata.insert("managedFields".into(), managed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api_schema::{SchemaRef, builtin};
    use jiff::Timestamp;
    use serde_json::json;

    fn writer(manager: &str, second: i64) -> Writer<'_> {
        Writer { manager, subresource: "", reset: &["status"], now: Timestamp::from_second(second).unwrap() }
    }
    fn deployment() -> SchemaRef {
        builtin::for_kind("apps", "v1", "Deployment").unwrap()
    }
    fn created() -> Value {
        let mut new = json!({"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web","namespace":"default","uid":"u","labels":{"app":"web"}},
            "spec":{"replicas":1,"paused":true},"status":{"replicas":0}});
        track_update(None, &mut new, &deployment(), &writer("kubectl-create", 0));
        new
    }

    #[test]
    fn a_creator_owns_all_but_the_objects_identity() {
        assert_eq!(
            created()["metadata"]["managedFields"],
            json!([{"manager":"kubectl-create","operation":"Update","apiVersion":"apps/v1","time":"1970-01-01T00:00:00Z","fieldsType":"FieldsV1",
                "fieldsV1":{"f:metadata":{"f:labels":{".":{},"f:app":{}}},"f:spec":{"f:replicas":{},"f:paused":{}}}}])
        );
    }

    #[test]
    fn an_update_takes_what_it_changes_and_drops_what_it_removes() {
        let old = created();
        let mut new = old.clone();
        new["spec"] = json!({"replicas":3});
        track_update(Some(&old), &mut new, &deployment(), &writer("hpa", 60));
        assert_eq!(
            new["metadata"]["managedFields"],
            json!([
                {"manager":"kubectl-create","operation":"Update","apiVersion":"apps/v1","time":"1970-01-01T00:00:00Z","fieldsType":"FieldsV1",
                    "fieldsV1":{"f:metadata":{"f:labels":{".":{},"f:app":{}}}}},
                {"manager":"hpa","operation":"Update","apiVersion":"apps/v1","time":"1970-01-01T00:01:00Z","fieldsType":"FieldsV1","fieldsV1":{"f:spec":{"f:replicas":{}}}},
            ])
        );
        let before = new.clone();
        track_update(Some(&before), &mut new, &deployment(), &writer("hpa", 120));
        assert_eq!(new, before, "an update that changes nothing keeps the time");
    }

    #[test]
    fn a_subresource_is_an_owner_of_its_own() {
        let old = created();
        let mut new = old.clone();
        new["status"] = json!({"replicas":2});
        new["metadata"]["managedFields"] = json!([{}]);
        let writer = Writer { subresource: "status", reset: &["spec"], ..writer("controller", 60) };
        track_update(Some(&old), &mut new, &deployment(), &writer);
        let entries = new["metadata"]["managedFields"].as_array().unwrap();
        assert_eq!(entries.len(), 2);
        assert_eq!((&entries[1]["subresource"], &entries[1]["fieldsV1"]), (&json!("status"), &json!({"f:status":{"f:replicas":{}}})));
    }

    #[test]
    fn managed_fields_can_be_cleared_kept_and_replaced() {
        let old = created();
        for (sent, want) in [
            (json!([{}]), None),
            (json!([]), Some(&old["metadata"]["managedFields"])),
            (Value::Null, Some(&old["metadata"]["managedFields"])),
            (json!("rubbish"), Some(&old["metadata"]["managedFields"])),
        ] {
            let mut new = old.clone();
            new["metadata"]["managedFields"] = sent.clone();
            track_update(Some(&old), &mut new, &deployment(), &writer("x", 60));
            assert_eq!(new["metadata"].get("managedFields"), want, "{sent}");
        }
        let mut untracked = old.clone();
        take(&mut untracked);
        let mut new = untracked.clone();
        new["spec"]["replicas"] = 9.into();
        track_update(Some(&untracked), &mut new, &deployment(), &writer("x", 60));
        assert_eq!(new["metadata"].get("managedFields"), None);
    }
}
