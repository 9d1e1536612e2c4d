//! metrics.k8s.io/v1beta1: its kinds, a file each. Upstream serves them by a server of their own, metrics-server.
mod node_metrics;
mod pod_metrics;

pub use node_metrics::NodeMetrics;
pub use pod_metrics::PodMetrics;

use serde_json::{Value, json};

/// What both say of when they were measured.
fn measured(mut properties: Value, description: &str) -> Value {
    properties["timestamp"] = json!({"type": "string", "format": "date-time", "description": "The end of the time over which usage was measured."});
    properties["window"] = json!({"type": "string", "description": "How long that time was."});
    json!({"description": description, "type": "object", "required": ["timestamp", "window"], "properties": properties})
}

fn usage(of: &str) -> Value {
    json!({"type": "object", "description": format!("cpu: the {of}'s cores in use, on average. memory: its working set, in bytes."),
        "additionalProperties": {"x-kubernetes-int-or-string": true}})
}
