//! Event: something that happened to an object.
use crate::cells::since;
use crate::check::{At, Report};
use crate::fields::{Read, selectable, selectable_at};
use api_meta::FieldErrors;
use api_resource::{Column, Field, Names, Resource, Row, Versions, text};
use serde_json::Value;

pub struct Events;

impl Resource for Events {
    const NAMES: Names = Names::with("", "v1", "Event", "events", "event", const { &[text("ev")] }, &[]);
    const COLUMNS: &'static [Column] = &[
        Column::with("Last Seen", |row| last_seen(row).into()),
        Column::path("Type", ".type"),
        Column::path("Reason", ".reason"),
        Column::with("Object", object),
        Column::with("Subobject", |row| row.object["involvedObject"]["fieldPath"].text().into()).wide(),
        Column::with("Source", source).wide(),
        Column::with("Message", |row| row.object["message"].text().trim().into()),
        Column::with("First Seen", |row| first_seen(row).into()).wide(),
        Column::with("Count", count).wide(),
        Column::NAME.wide(),
    ];
    const OWN_COLUMNS: bool = true;
    const FIELDS: &'static [Field] = &[
        selectable("involvedObject.kind", ""),
        selectable("involvedObject.namespace", ""),
        selectable("involvedObject.name", ""),
        selectable("involvedObject.uid", ""),
        selectable("involvedObject.apiVersion", ""),
        selectable("involvedObject.resourceVersion", ""),
        selectable("involvedObject.fieldPath", ""),
        selectable("reason", ""),
        selectable("reportingComponent", ""),
        selectable_at("source", &["source.component", "reportingComponent"], ""),
        selectable("type", ""),
    ];
    const VERSIONS: Option<&'static dyn Versions> = Some(&crate::events::VERSIONS);
    const GENERATION: bool = false;
    const CREATE_ON_UPDATE: bool = true;
    fn validate(new: &Value, _old: Option<&Value>) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let root = At::root(new);
        let (involved, own) = (root.field("involvedObject.namespace"), new["metadata"]["namespace"].text());
        // Events about objects without a namespace are kept in the default one.
        let fits = if involved.text().is_empty() { own == "default" } else { involved.text() == own };
        if !fits {
            errors.invalid_as(&involved, involved.text(), "does not match event.namespace");
        }
        errors
    }
}

fn first_seen(row: &Row) -> String {
    let first = &row.object["firstTimestamp"];
    since(if first.is_null() { &row.object["eventTime"] } else { first }, row)
}

fn last_seen(row: &Row) -> String {
    let (series, last) = (&row.object["series"], &row.object["lastTimestamp"]);
    if series.is_set() {
        since(&series["lastObservedTime"], row)
    } else if last.is_null() {
        first_seen(row)
    } else {
        since(last, row)
    }
}

fn count(row: &Row) -> Value {
    let series = &row.object["series"];
    let count = if series.is_set() { series["count"].int() } else { row.object["count"].int().filter(|count| *count != 0).or(Some(1)) };
    count.unwrap_or_default().into()
}

fn object(row: &Row) -> Value {
    let (kind, name) = (row.object["involvedObject"]["kind"].text().to_lowercase(), row.object["involvedObject"]["name"].text());
    if name.is_empty() { kind.into() } else { format!("{kind}/{name}").into() }
}

fn source(row: &Row) -> Value {
    let first_of = |one: &Value, other: &Value| if one.text().is_empty() { other.text() } else { one.text() }.to_owned();
    let component = first_of(&row.object["source"]["component"], &row.object["reportingComponent"]);
    let host = first_of(&row.object["source"]["host"], &row.object["reportingInstance"]);
    if host.is_empty() { component.into() } else { format!("{component}, {host}").into() }
}
