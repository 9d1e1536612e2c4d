//! CSINode: the CSI drivers of a node.
use api_resource::{Names, Resource, ResourceScope};

pub struct CSINodes;

impl Resource for CSINodes {
    const NAMES: Names = Names::new("storage.k8s.io", "v1", "CSINode", "csinodes", "csinode");
    const SCOPE: ResourceScope = ResourceScope::Cluster;
    const GENERATION: bool = false;
    const UNCONDITIONAL_UPDATE: bool = false;
}
