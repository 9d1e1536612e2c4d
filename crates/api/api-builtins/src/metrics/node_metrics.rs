//! NodeMetrics: what a node uses now. Measured when asked for, never stored.
use super::{measured, usage};
use api_resource::{Column, Names, Resource, ResourceScope, WrittenSchema};
use serde_json::json;
use std::sync::LazyLock;

pub struct NodeMetrics;

static SCHEMA: LazyLock<WrittenSchema> =
    LazyLock::new(|| WrittenSchema::new(measured(json!({"usage": usage("node")}), "NodeMetrics sets resource usage metrics of a node.")));

impl Resource for NodeMetrics {
    const NAMES: Names = Names::new("metrics.k8s.io", "v1beta1", "NodeMetrics", "nodes", "nodemetrics");
    const SCOPE: ResourceScope = ResourceScope::Cluster;
    const VERBS: &'static [&'static str] = &["get", "list"];
    const COMPUTED: bool = true;
    const OWN_COLUMNS: bool = true;
    const COLUMNS: &'static [Column] =
        &[Column::NAME, Column::path("CPU", ".usage.cpu"), Column::path("Memory", ".usage.memory"), Column::path("Window", ".window")];
    fn written() -> Option<&'static WrittenSchema> {
        Some(&SCHEMA)
    }
}
