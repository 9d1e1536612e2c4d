//! ComponentStatus: whether the parts of the control plane are well. Worked out when asked for, never stored.
use crate::fields::Read;
use api_resource::{Column, Names, Resource, ResourceScope, Row, text};
use serde_json::Value;

pub struct ComponentStatuses;

impl Resource for ComponentStatuses {
    const NAMES: Names = Names::with("", "v1", "ComponentStatus", "componentstatuses", "componentstatus", const { &[text("cs")] }, &[]);
    const SCOPE: ResourceScope = ResourceScope::Cluster;
    const VERBS: &'static [&'static str] = &["get", "list"];
    const DEPRECATION: Option<&'static str> = Some("v1 ComponentStatus is deprecated in v1.19+");
    const COMPUTED: bool = true;
    const COLUMNS: &'static [Column] =
        &[Column::NAME, Column::with("Status", health), Column::with("Message", |row| told(row, "message")), Column::with("Error", |row| told(row, "error"))];
    const OWN_COLUMNS: bool = true;
}

fn health(row: &Row) -> Value {
    match healthy(row)["status"].text() {
        "True" => "Healthy".into(),
        "False" => "Unhealthy".into(),
        _ => "Unknown".into(),
    }
}

fn told(row: &Row, field: &str) -> Value {
    healthy(row)[field].text().into()
}

fn healthy<'a>(row: &'a Row) -> &'a Value {
    row.object["conditions"].list().iter().find(|condition| condition["type"] == "Healthy").unwrap_or(&Value::Null)
}
