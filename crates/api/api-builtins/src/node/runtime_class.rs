//! RuntimeClass: which container runtime runs a pod.
use api_resource::{Names, Resource, ResourceScope};

pub struct RuntimeClasses;

impl Resource for RuntimeClasses {
    const NAMES: Names = Names::new("node.k8s.io", "v1", "RuntimeClass", "runtimeclasses", "runtimeclass");
    const SCOPE: ResourceScope = ResourceScope::Cluster;
    const GENERATION: bool = false;
    const UNCONDITIONAL_UPDATE: bool = false;
}
