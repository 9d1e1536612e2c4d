//! PodMetrics: what a pod's containers use now. Measured when asked for, never stored.
use super::{measured, usage};
use api_meta::Quantity;
use api_resource::{Column, Names, Resource, Row, WrittenSchema};
use serde_json::{Value, json};
use std::sync::LazyLock;

pub struct PodMetrics;

static SCHEMA: LazyLock<WrittenSchema> = LazyLock::new(|| {
    let container = json!({"type": "object", "required": ["name", "usage"], "properties": {"name": {"type": "string"}, "usage": usage("container")}});
    let containers = json!({"type": "array", "description": "Each container that runs.", "items": container});
    WrittenSchema::new(measured(json!({"containers": containers}), "PodMetrics sets resource usage metrics of a pod."))
});

impl Resource for PodMetrics {
    const NAMES: Names = Names::new("metrics.k8s.io", "v1beta1", "PodMetrics", "pods", "podmetrics");
    const VERBS: &'static [&'static str] = &["get", "list"];
    const COMPUTED: bool = true;
    const OWN_COLUMNS: bool = true;
    const COLUMNS: &'static [Column] = &[
        Column::NAME,
        Column::with("CPU", |row| total(row, "cpu").into()),
        Column::with("Memory", |row| total(row, "memory").into()),
        Column::path("Window", ".window"),
    ];
    fn written() -> Option<&'static WrittenSchema> {
        Some(&SCHEMA)
    }
}

fn total(row: &Row, resource: &str) -> String {
    let containers = row.object["containers"].as_array().into_iter().flatten();
    let amounts = containers.filter_map(|container: &Value| Quantity::parse(container["usage"][resource].as_str()?).ok());
    amounts.reduce(|sum, amount| sum + amount).unwrap_or_else(|| Quantity::from_units(0)).to_string()
}
