//! CSINode: the CSI drivers of a node.
use crate::fields::Read;
use api_resource::{Column, Names, Resource, ResourceScope};

pub struct CSINodes;

impl Resource for CSINodes {
    const NAMES: Names = Names::new("storage.k8s.io", "v1", "CSINode", "csinodes", "csinode");
    const SCOPE: ResourceScope = ResourceScope::Cluster;
    const COLUMNS: &'static [Column] = &[Column::with("Drivers", |row| row.object["spec"]["drivers"].list().len().into()).integer()];
    const GENERATION: bool = false;
    const UNCONDITIONAL_UPDATE: bool = false;
}
