//! PriorityClass: a name for a pod priority.
use api_resource::{Names, Resource, ResourceScope, text};

pub struct PriorityClasses;

impl Resource for PriorityClasses {
    const NAMES: Names = Names::with("scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses", "priorityclass", const { &[text("pc")] }, &[]);
    const SCOPE: ResourceScope = ResourceScope::Cluster;
}
