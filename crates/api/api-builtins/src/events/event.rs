//! Event: the core group's Events under the names of their fields in events.k8s.io.
use crate::check::{At, Report};
use crate::core;
use crate::fields::{Read, selectable};
use api_meta::{FieldErrors, names};
use api_resource::{BuiltinCell, Column, Field, Names, Resource, Row, Versions, text};
use api_schema::SchemaRef;
use serde_json::Value;

pub struct Events;

const CORE: &str = "v1";

/// Fields by their names here and in the core group.
const RENAMED: [(&str, &str); 7] = [
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
    ("reportingController", "reportingComponent"),
];

pub struct EventVersions;

/// Events of both groups.
pub static VERSIONS: EventVersions = EventVersions;

impl Versions for EventVersions {
    fn storage(&self) -> &str {
        CORE
    }
    fn convert(&self, object: Value, to: &str) -> Result<Value, String> {
        Ok(converted(object, to))
    }
    fn schema_of(&self, api_version: &str) -> Option<SchemaRef> {
        let (group, version) = api_meta::split_api_version(api_version);
        api_schema::builtin::for_kind(group, version, "Event")
    }
}

/// An Event of either group as one of the other.
fn converted(mut object: Value, to: &str) -> Value {
    if object["apiVersion"] == to {
        return object;
    }
    if let Some(fields) = object.as_object_mut() {
        for (here, core) in RENAMED {
            let (from, to) = if to == CORE { (here, core) } else { (core, here) };
            if let Some(value) = fields.remove(from) {
                fields.insert(to.into(), value);
            }
        }
        fields.insert("apiVersion".into(), to.into());
    }
    object
}

/// A cell of the core group's Table.
fn cell(row: &Row, index: usize) -> Value {
    let object = converted(row.object.clone(), CORE);
    let row = Row { object: &object, now: row.now };
    match core::Events::COLUMNS[index].cell {
        BuiltinCell::With(cell) => cell(&row),
        BuiltinCell::Path(path) => api_resource::at_path(row.object, path).cloned().unwrap_or(Value::Null),
    }
}

impl Resource for Events {
    const NAMES: Names = Names::with("events.k8s.io", "v1", "Event", "events", "event", const { &[text("ev")] }, &[]);
    const STORED_AS: Option<(&'static str, &'static str)> = Some(("", "events"));
    const VERSIONS: Option<&'static dyn Versions> = Some(&VERSIONS);
    const COLUMNS: &'static [Column] = &[
        Column::with("Last Seen", |row| cell(row, 0)),
        Column::with("Type", |row| cell(row, 1)),
        Column::with("Reason", |row| cell(row, 2)),
        Column::with("Object", |row| cell(row, 3)),
        Column::with("Subobject", |row| cell(row, 4)).wide(),
        Column::with("Source", |row| cell(row, 5)).wide(),
        Column::with("Message", |row| cell(row, 6)),
        Column::with("First Seen", |row| cell(row, 7)).wide(),
        Column::with("Count", |row| cell(row, 8)).wide(),
        Column::NAME.wide(),
    ];
    const OWN_COLUMNS: bool = true;
    const FIELDS: &'static [Field] = &[
        selectable("regarding.kind", ""),
        selectable("regarding.namespace", ""),
        selectable("regarding.name", ""),
        selectable("regarding.uid", ""),
        selectable("regarding.apiVersion", ""),
        selectable("regarding.resourceVersion", ""),
        selectable("regarding.fieldPath", ""),
        selectable("reason", ""),
        selectable("reportingController", ""),
        selectable("type", ""),
    ];
    const GENERATION: bool = false;
    const CREATE_ON_UPDATE: bool = true;
    fn validate(new: &Value, old: Option<&Value>) -> FieldErrors {
        let of_core = converted(new.clone(), CORE);
        let mut errors = core::Events::validate(&of_core, None);
        // Upstream's errors name the fields as they are called inside of it.
        let root = At::root(&of_core);
        match old {
            None => created(&mut errors, &root, new),
            Some(old) => updated(&mut errors, &root, new, &converted(old.clone(), CORE)),
        }
        errors
    }
}

fn created(errors: &mut FieldErrors, event: &At, new: &Value) {
    if event["eventTime"].is_null() {
        errors.required(&event.field("eventTime"), "");
    }
    series(errors, event);
    let own = At::root(new);
    let controller = own.field("reportingController");
    errors.named(&controller, names::qualified_name);
    for field in ["reportingInstance", "action", "reason"] {
        let at = event.field(field);
        errors.present(&at);
        if at.text().len() > 128 {
            errors.invalid_as(&at, "", "can have at most 128 characters");
        }
    }
    if event["message"].text().len() > 1024 {
        errors.invalid_as(&event.field("message"), "", "can have at most 1024 characters");
    }
    let kind = event.field("type");
    if !matches!(kind.text(), "Normal" | "Warning") {
        errors.invalid_as(&kind, "", format!("has invalid value: {}", kind.text()));
    }
}

fn series(errors: &mut FieldErrors, event: &At) {
    let series = event.field("series");
    if series.is_null() {
        return;
    }
    if series["count"].int().unwrap_or(0) < 2 {
        errors.invalid_as(&series.field("count"), "", "should be at least 2");
    }
    if series["lastObservedTime"].is_null() {
        errors.required(&series.field("lastObservedTime"), "");
    }
}

/// Of what happened nothing changes but how often.
fn updated(errors: &mut FieldErrors, event: &At, new: &Value, old: &Value) {
    const KEPT: [&str; 11] =
        ["involvedObject", "reason", "message", "source", "firstTimestamp", "lastTimestamp", "count", "type", "eventTime", "action", "related"];
    for field in KEPT {
        errors.immutable(&event.field(field), &old[field]);
    }
    let own = At::root(new);
    errors.immutable(&own.field("reportingController"), &old["reportingComponent"]);
    errors.immutable(&own.field("reportingInstance"), &old["reportingInstance"]);
    series(errors, event);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_two_groups_tell_the_same_event() {
        let core = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"}, "involvedObject": {"kind": "Pod"}, "message": "m", "count": 2, "reportingComponent": "c"});
        const OWN: &str = "events.k8s.io/v1";
        let own = converted(core.clone(), OWN);
        assert_eq!(
            own,
            json!({"apiVersion": OWN, "kind": "Event", "metadata": {"name": "e"}, "regarding": {"kind": "Pod"}, "note": "m", "deprecatedCount": 2, "reportingController": "c"})
        );
        assert_eq!(converted(own, CORE), core);
    }
}
