//! StorageClass: how volumes of a kind are made.
use crate::cells::{AGE, text_or};
use crate::fields::{Fill, Read};
use api_resource::{Column, Names, Resource, ResourceScope, Row, text};
use serde_json::Value;

pub struct StorageClasses;

impl Resource for StorageClasses {
    const NAMES: Names = Names::with("storage.k8s.io", "v1", "StorageClass", "storageclasses", "storageclass", const { &[text("sc")] }, &[]);
    const SCOPE: ResourceScope = ResourceScope::Cluster;
    const COLUMNS: &'static [Column] = &[
        Column { format: "name", ..Column::with("Name", name) },
        Column::path("Provisioner", ".provisioner"),
        Column::with("ReclaimPolicy", |row| text_or(&row.object["reclaimPolicy"], "Delete")),
        Column::with("VolumeBindingMode", |row| text_or(&row.object["volumeBindingMode"], "<unset>")),
        Column::with("AllowVolumeExpansion", |row| row.object["allowVolumeExpansion"].flag().into()),
        AGE,
    ];
    const OWN_COLUMNS: bool = true;
    const GENERATION: bool = false;
    fn default(object: &mut Value) {
        object.absent("reclaimPolicy", "Delete");
        object.absent("volumeBindingMode", "Immediate");
    }
}

/// The default class is marked beside its name.
fn name(row: &Row) -> Value {
    let (name, annotations) = (row.object["metadata"]["name"].text(), &row.object["metadata"]["annotations"]);
    let is_default =
        ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"].iter().any(|key| annotations[*key] == "true");
    if is_default { format!("{name} (default)").into() } else { name.into() }
}
