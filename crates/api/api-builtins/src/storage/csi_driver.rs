//! CSIDriver: what a CSI driver can do and needs.
use api_resource::{Names, Resource, ResourceScope};

pub struct CSIDrivers;

impl Resource for CSIDrivers {
    const NAMES: Names = Names::new("storage.k8s.io", "v1", "CSIDriver", "csidrivers", "csidriver");
    const SCOPE: ResourceScope = ResourceScope::Cluster;
    const UNCONDITIONAL_UPDATE: bool = false;
}
