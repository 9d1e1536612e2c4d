//! Server-side apply and the tracking of field owners (KEP-555; structured-merge-diff's semantics).

mod compare;
mod conflict;
mod element;
mod field_set;
mod fields;
mod last_applied;
mod managed;
mod merge;
mod update;
mod versions;
mod writer;

pub use update::{track_update, track_update_among};
pub use versions::OtherVersions;
pub use writer::Writer;

use api_meta::{Status, split_api_version};
use api_schema::Schema;
use compare::compare;
use conflict::Conflict;
use field_set::{drop_emptied, faults, field_set, with_structs, without};
use fields::{Fields, intersection, subtract, union};
use managed::{Entry, Operation, decode, encode};
use serde_json::{Map, Value};
use update::{add, put, take};
use versions::{Changes, seen_in};
use writer::strip_identity;

/// The owner of what an object held before anyone's fields were tracked.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// A configuration laid over an object, whoever owns what: fields and items merge, leaves are the configuration's.
pub fn laid_over(live: &Value, applied: &Value, schema: &Schema) -> Value {
    merge::merge(live, applied, Some(schema))
}

/// Applies a configuration: gives the new object, with its managedFields. Without `live`, it is created.
///
/// `applied` must have been decoded and pruned; `writer.manager` must not be empty. If nothing changes,
/// the live object comes back equal, times included.
///
/// Errors: 400 if the configuration has managedFields, 500 if it does not fit the schema, 409 with a cause for
/// each field if others own what it changes and `force` is off.
pub fn apply(live: Option<&Value>, applied: &Value, schema: &Schema, writer: &Writer, force: bool) -> Result<Value, Status> {
    apply_among(live, applied, schema, writer, force, None)
}

/// [`apply`] to a kind that is served in other versions too, whose managers own fields of theirs.
pub fn apply_among(
    live: Option<&Value>,
    applied: &Value,
    schema: &Schema,
    writer: &Writer,
    force: bool,
    versions: Option<&dyn OtherVersions>,
) -> Result<Value, Status> {
    if applied.get("metadata").and_then(|m| m.get("managedFields")).is_some_and(|m| !m.is_null()) {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    fits(applied, schema)?;
    let api_version = applied.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
    let mut base = live.cloned().unwrap_or_else(|| Value::Object(Map::new()));
    let mut entries = take(&mut base).map(decode).unwrap_or_default();
    if live.is_some() && entries.is_empty() {
        let mut all = compare(None, &base, schema).changed;
        strip_identity(&mut all);
        let before = Writer { manager: BEFORE_FIRST_APPLY, subresource: "", ..*writer };
        entries.push(before.entry(Operation::Update, api_version, all));
    }

    let mut own = writer.entry(Operation::Apply, api_version, field_set(applied, schema));
    let last = entries.iter().position(|e| e.is_same_owner(&own)).map(|at| entries.remove(at));

    let merged = merge::merge(&base, applied, Some(schema));
    let mut object = match &last {
        Some(last) => prune(&merged, schema, last, &own, &entries, versions),
        None => merged,
    };
    let mut comparison = compare(live.map(|_| &base), &object, schema);
    // Not before pruning: what the configuration names, the object's own name included, must hold its ground there.
    for set in [&mut own.fields, &mut comparison.changed, &mut comparison.removed] {
        strip_identity(set);
        writer.strip_reset(set);
    }
    let mut changes = Changes::new(live.map(|_| &base), &object, api_version, comparison, versions, writer);
    if !force {
        check_conflicts(&entries, &mut changes, &base, schema, writer)?;
    }
    changes.dispossess(&mut entries);

    // The time moves only if the object or the set of fields owned did.
    let unchanged = object == base && last.as_ref().is_some_and(|l| l.fields == own.fields && l.api_version == own.api_version);
    let time = if unchanged { last.and_then(|l| l.time) } else { own.time.clone() };
    add(&mut entries, Entry { time, ..own });
    if writer.manager == last_applied::KUBECTL && !unchanged {
        last_applied::renew(&mut object, applied);
    }
    put(&mut object, encode(entries));
    Ok(object)
}

/// Whether a configuration, as it was sent, has a place in the schema for all it says. Unlike other writes,
/// an apply is refused for fields nobody knows, whatever `fieldValidation` asks for: nobody could own them.
///
/// Errors: upstream's message, but as the client's mistake (400) it is: upstream says 500 without a reason.
pub fn fits(applied: &Value, schema: &Schema) -> Result<(), Status> {
    let faults = faults(applied, schema);
    if faults.is_empty() { Ok(()) } else { Err(does_not_fit(applied, &faults)) }
}

fn does_not_fit(applied: &Value, faults: &[String]) -> Status {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    let metadata = |key: &str| text(applied.get("metadata").and_then(|m| m.get(key)));
    let api_version = text(applied.get("apiVersion"));
    let (group, version) = split_api_version(&api_version);
    let group_version = if group.is_empty() { format!("/{version}") } else { format!("{group}/{version}") };
    let what = match faults {
        [one] => one.clone(),
        many => format!("errors:\n  {}", many.join("\n  ")),
    };
    let kind = text(applied.get("kind"));
    let message = format!("failed to create typed patch object ({}/{}; {group_version}, Kind={kind}): {what}", metadata("namespace"), metadata("name"));
    Status::new(400, "BadRequest", message)
}

fn check_conflicts(entries: &[Entry], changes: &mut Changes, live: &Value, schema: &Schema, writer: &Writer) -> Result<(), Status> {
    let mut against = |allowed: &Fields| -> Vec<Conflict> {
        let conflicts = entries.iter().map(|owner| {
            let mut fields = changes.contested(owner);
            subtract(&mut fields, allowed, false);
            Conflict { owner, fields }
        });
        conflicts.filter(|c| !c.fields.is_empty()).collect()
    };
    let mut conflicts = against(&Map::new());
    if !conflicts.is_empty() && writer.manager == last_applied::KUBECTL {
        conflicts = against(&last_applied::still_applied(live, schema));
    }
    if conflicts.is_empty() { Ok(()) } else { Err(conflict::status(conflicts)) }
}

/// Takes out what the applier applied last time but not now, unless someone else owns it.
///
/// It is done in the version of the last time, and given back in the version of this time.
fn prune(merged: &Value, schema: &Schema, last: &Entry, own: &Entry, others: &[Entry], versions: Option<&dyn OtherVersions>) -> Value {
    let at = |object: &Value, api_version: &str| seen_in(versions, object, api_version, &own.api_version, schema);
    // Of a version that is gone nothing can be told any more.
    let Some((before, last_schema)) = at(merged, &last.api_version) else { return merged.clone() };
    let last_fields = with_structs(&last.fields, Some(&last_schema));
    let mut pruned = (without(&before, &last_fields, Some(&last_schema)), last.api_version.clone());

    // Back comes what anyone owns, the applier's present configuration included, in the version of each ...
    let mut owned: Vec<(&str, Fields)> = vec![(&last.api_version, Fields::new())];
    for entry in others.iter().chain([own]) {
        let version = if versions.is_none() { last.api_version.as_str() } else { &entry.api_version };
        match owned.iter_mut().find(|(other, _)| *other == version) {
            Some((_, fields)) => union(fields, &entry.fields),
            None => owned.push((version, entry.fields.clone())),
        }
    }
    for (version, owned) in owned {
        let (Some((merged, schema)), Some((now, _))) = (at(merged, version), at(&pruned.0, version)) else { continue };
        let root = Some(&*schema);
        let full = |value: &Value| with_structs(&field_set(value, &schema), root);
        let mut gone = full(&merged);
        subtract(&mut gone, &full(&now), false);
        subtract(&mut gone, &with_structs(&owned, root), false);
        pruned = (without(&merged, &gone, root), version.to_owned());
    }

    // ... and what went with an item but was never the applier's.
    let Some((now, _)) = at(&pruned.0, &last.api_version) else { return merged.clone() };
    let root = Some(&*last_schema);
    let full = |value: &Value| with_structs(&field_set(value, &last_schema), root);
    let mut gone = full(&before);
    subtract(&mut gone, &full(&now), false);
    let back = without(&before, &intersection(&gone, &last_fields), root);
    let Some((mut pruned, _)) = at(&back, &own.api_version) else { return merged.clone() };
    drop_emptied(&mut pruned, merged, Some(&own.fields), Some(schema));
    pruned
}

#[cfg(test)]
mod tests;
