//! RuntimeClass: which container runtime runs a pod.
use crate::fields::Fill;
use crate::quantities;
use api_resource::{Column, Names, Resource, ResourceScope};
use serde_json::Value;

pub struct RuntimeClasses;

impl Resource for RuntimeClasses {
    const NAMES: Names = Names::new("node.k8s.io", "v1", "RuntimeClass", "runtimeclasses", "runtimeclass");
    const SCOPE: ResourceScope = ResourceScope::Cluster;
    const COLUMNS: &'static [Column] = &[Column::path("Handler", ".handler")];
    const GENERATION: bool = false;
    const UNCONDITIONAL_UPDATE: bool = false;
    fn default(object: &mut Value) {
        if let Some(overhead) = object.child("overhead") {
            quantities::canonical_map(overhead, "podFixed");
        }
    }
}
