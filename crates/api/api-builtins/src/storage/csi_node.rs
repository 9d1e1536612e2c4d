//! CSINode: the CSI drivers of a node.
use crate::check::{At, Report, metadata};
use crate::fields::Read;
use api_meta::FieldErrors;
use api_resource::{Column, Names, Resource, ResourceScope};
use serde_json::Value;

pub struct CSINodes;

impl Resource for CSINodes {
    const NAMES: Names = Names::new("storage.k8s.io", "v1", "CSINode", "csinodes", "csinode");
    const RETURNS_DELETED: bool = true;
    const SCOPE: ResourceScope = ResourceScope::Cluster;
    const COLUMNS: &'static [Column] = &[Column::with("Drivers", |row| row.object["spec"]["drivers"].list().len().into()).integer()];
    const GENERATION: bool = false;
    const UNCONDITIONAL_UPDATE: bool = false;
    fn validate(new: &Value, old: Option<&Value>) -> FieldErrors {
        const LONGEST_NODE: usize = 192;
        let mut errors = FieldErrors::new();
        let root = At::root(new);
        let drivers = root.field("spec.drivers");
        for (index, driver) in drivers.items().enumerate() {
            let (name, node, keys) = (driver.field("name"), driver.field("nodeID"), driver.field("topologyKeys"));
            errors.named(&name, crate::pod_spec::csi_driver_name);
            errors.present(&node);
            if node.text().len() > LONGEST_NODE {
                errors.invalid(&node, format!("must be {LONGEST_NODE} characters or less"));
            }
            if drivers.list()[..index].iter().any(|other| other["name"] == driver["name"]) {
                errors.duplicate(&name);
            }
            for (index, key) in keys.items().enumerate() {
                metadata::label_key(&mut errors, &key, key.text());
                if keys.list()[..index].contains(&key) {
                    errors.duplicate(&key);
                }
            }
            let before = old.and_then(|old| old["spec"]["drivers"].list().iter().find(|other| other["name"] == driver["name"]));
            if before.is_some_and(|before| before["nodeID"] != driver["nodeID"] || before["topologyKeys"] != driver["topologyKeys"]) {
                errors.invalid(&driver, "field is immutable");
            }
        }
        errors
    }
}
