//! PersistentVolumeClaim: a request for storage.
use crate::cells::{UNSET, access_modes, storage_class, text_or};
use crate::core::volume_validation;
use crate::fields::{Fill, Read};
use crate::pod_spec::defaults;
use crate::quantities;
use api_meta::FieldErrors;
use api_resource::{Column, Names, Resource, Row, STATUS, Subresource, WriteContext, text};
use serde_json::{Value, json};

pub struct PersistentVolumeClaims;

impl Resource for PersistentVolumeClaims {
    const NAMES: Names = Names::with("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims", "persistentvolumeclaim", const { &[text("pvc")] }, &[]);
    const RETURNS_DELETED: bool = true;
    const COLUMNS: &'static [Column] = &[
        Column::with(
            "Status",
            |row| if row.object["metadata"]["deletionTimestamp"].is_set() { "Terminating".into() } else { row.object["status"]["phase"].clone() },
        ),
        Column::with("Volume", |row| row.object["spec"]["volumeName"].text().into()),
        Column::with("Capacity", |row| if is_bound(row) { row.object["status"]["capacity"]["storage"].text().into() } else { "".into() }),
        Column::with("Access Modes", |row| if is_bound(row) { access_modes(&row.object["status"]["accessModes"]).into() } else { "".into() }),
        Column::with("StorageClass", |row| storage_class(row.object)),
        Column::with("VolumeAttributesClass", |row| text_or(&row.object["spec"]["volumeAttributesClassName"], UNSET)),
        Column::with("VolumeMode", |row| text_or(&row.object["spec"]["volumeMode"], UNSET)).wide(),
    ];
    const SUBRESOURCES: &'static [Subresource] = &[STATUS];
    const GENERATION: bool = false;
    fn default(object: &mut Value) {
        defaults::claim_spec(object.open("spec"));
        let status = object.open("status");
        status.zero("phase", "Pending");
        quantities::canonical_map(status, "capacity");
    }
    fn prepare_create(object: &mut Value, _context: &WriteContext) {
        object.put("status", json!({"phase": "Pending"}));
        one_data_source(object.open("spec"));
    }
    fn prepare_update(new: &mut Value, _old: &Value, _context: &WriteContext) {
        one_data_source(new.open("spec"));
    }
    fn validate(new: &Value, old: Option<&Value>) -> FieldErrors {
        volume_validation::claim(new, old)
    }
    fn validate_part(_subresource: &str, new: &Value, _old: &Value) -> FieldErrors {
        volume_validation::claim_status(new)
    }
}

/// `dataSource` and `dataSourceRef` say the same, unless the reference crosses namespaces.
fn one_data_source(spec: &mut Value) {
    match (spec.get("dataSource").cloned(), spec.get("dataSourceRef").cloned()) {
        (Some(source), None) => spec.put("dataSourceRef", source),
        (None, Some(reference)) if reference.get("namespace").is_none() => spec.put("dataSource", reference),
        _ => {}
    }
}

fn is_bound(row: &Row) -> bool {
    !row.object["spec"]["volumeName"].text().is_empty()
}
