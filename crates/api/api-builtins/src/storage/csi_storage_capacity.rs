//! CSIStorageCapacity: how much storage is left in a topology segment.
use crate::cells::{UNSET, text_or};
use crate::check::{At, Report, resources, selectors};
use crate::fields::Read;
use crate::quantities;
use api_meta::{FieldErrors, names};
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
    fn validate(new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let root = At::root(new);
        let topology = root.field("nodeTopology");
        selectors::label_selector(&mut errors, &topology);
        let class = root.field("storageClassName");
        errors.reasons(&class, names::dns1123_subdomain(class.text()));
        for field in ["capacity", "maximumVolumeSize"] {
            resources::quantity(&mut errors, &root.field(field));
        }
        if let Some(old) = old {
            errors.immutable(&topology, &old["nodeTopology"]);
            errors.immutable(&class, &old["storageClassName"]);
        }
        errors
    }
}
