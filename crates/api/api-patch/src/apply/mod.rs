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
mod writer;

pub use update::track_update;
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
/// Errors: 400 if the configuration has managedFields or does not fit the schema, 409 with a cause for
/// each field if others own what it changes and `force` is off.
pub fn apply(live: Option<&Value>, applied: &Value, schema: &Schema, writer: &Writer, force: bool) -> Result<Value, Status> {
    if applied.get("metadata").and_then(|m| m.get("managedFields")).is_some_and(|m| !m.is_null()) {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    let faults = faults(applied, schema);
    if !faults.is_empty() {
        return Err(does_not_fit(applied, &faults));
    }
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
        Some(last) => prune(&merged, schema, last, &own, &entries),
        None => merged,
    };
    let mut comparison = compare(live.map(|_| &base), &object, schema);
    // Not before pruning: what the configuration names, the object's own name included, must hold its ground there.
    for set in [&mut own.fields, &mut comparison.changed, &mut comparison.removed] {
        strip_identity(set);
        writer.strip_reset(set);
    }
    if !force {
        check_conflicts(&entries, &comparison.changed, &base, schema, writer)?;
    }
    for entry in &mut entries {
        subtract(&mut entry.fields, &comparison.changed, false);
        subtract(&mut entry.fields, &comparison.removed, false);
    }

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
    Status::bad_request(format!("failed to create typed patch object ({}/{}; {group_version}, Kind={kind}): {what}", metadata("namespace"), metadata("name")))
}

fn check_conflicts(entries: &[Entry], changed: &Fields, live: &Value, schema: &Schema, writer: &Writer) -> Result<(), Status> {
    let against = |allowed: &Fields| -> Vec<Conflict> {
        let conflicts = entries.iter().map(|owner| {
            let mut fields = intersection(&owner.fields, changed);
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
fn prune(merged: &Value, schema: &Schema, last: &Entry, own: &Entry, others: &[Entry]) -> Value {
    let root = Some(schema);
    let full = |value: &Value| with_structs(&field_set(value, schema), root);
    let last = with_structs(&last.fields, root);
    let pruned = without(merged, &last, root);

    // Back comes what anyone owns, the applier's present configuration included ...
    let all = full(merged);
    let mut gone = all.clone();
    subtract(&mut gone, &full(&pruned), false);
    let mut owned = own.fields.clone();
    others.iter().for_each(|entry| union(&mut owned, &entry.fields));
    subtract(&mut gone, &with_structs(&owned, root), false);
    let pruned = without(merged, &gone, root);

    // ... and what went with an item but was never the applier's.
    let mut gone = all;
    subtract(&mut gone, &full(&pruned), false);
    let mut pruned = without(merged, &intersection(&gone, &last), root);
    drop_emptied(&mut pruned, merged, Some(&own.fields), root);
    pruned
}

#[cfg(test)]
mod tests;
