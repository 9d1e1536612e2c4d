//! CSIStorageCapacity: how much storage is left in a topology segment.
use crate::cells::{UNSET, text_or};
use crate::quantities;
use api_resource::{Column, Names, Resource};
use serde_json::Value;

pub struct CSIStorageCapacities;

impl Resource for CSIStorageCapacities {
    const NAMES: Names = Names::new("storage.k8s.io", "v1", "CSIStorageCapacity", "csistoragecapacities", "csistoragecapacity");
    const COLUMNS: &'static [Column] =
        &[Column::NAME, Column::path("StorageClassName", ".storageClassName"), Column::with("Capacity", |row| text_or(&row.object["capacity"], UNSET))];
    const OWN_COLUMNS: bool = true;
    const GENERATION: bool = false;
    const UNCONDITIONAL_UPDATE: bool = false;
    fn default(object: &mut Value) {
        quantities::canonical(object, "capacity");
        quantities::canonical(object, "maximumVolumeSize");
    }
}
