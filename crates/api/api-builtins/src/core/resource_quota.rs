//! ResourceQuota: limits what a namespace may use in sum.
use crate::fields::{Fill, Read};
use crate::quantities;
use api_resource::{Column, Names, Resource, Row, STATUS, Subresource, text};
use serde_json::Value;

pub struct ResourceQuotas;

impl Resource for ResourceQuotas {
    const NAMES: Names = Names::with("", "v1", "ResourceQuota", "resourcequotas", "resourcequota", const { &[text("quota")] }, &[]);
    const COLUMNS: &'static [Column] = &[Column::with("Request", |row| usage(row, false)), Column::with("Limit", |row| usage(row, true))];
    const SUBRESOURCES: &'static [Subresource] = &[STATUS];
    const GENERATION: bool = false;
    fn default(object: &mut Value) {
        quantities::canonical_map(object.open("spec"), "hard");
        let status = object.open("status");
        quantities::canonical_map(status, "hard");
        quantities::canonical_map(status, "used");
    }
}

/// `name: used/hard` of the limits, or of everything else.
fn usage(row: &Row, limits: bool) -> Value {
    let (hard, used) = (&row.object["status"]["hard"], &row.object["status"]["used"]);
    let amount = |value: &Value| if value.text().is_empty() { "0".to_owned() } else { value.text().to_owned() };
    hard.entries()
        .filter(|(name, _)| name.starts_with("limits") == limits)
        .map(|(name, hard)| format!("{name}: {}/{}", amount(&used[name]), amount(hard)))
        .collect::<Vec<_>>()
        .join(", ")
        .into()
}
