//! CSIStorageCapacity: how much storage is left in a topology segment.
use api_resource::{Names, Resource};

pub struct CSIStorageCapacities;

impl Resource for CSIStorageCapacities {
    const NAMES: Names = Names::new("storage.k8s.io", "v1", "CSIStorageCapacity", "csistoragecapacities", "csistoragecapacity");
    const GENERATION: bool = false;
    const UNCONDITIONAL_UPDATE: bool = false;
}
