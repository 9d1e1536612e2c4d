//! PersistentVolume: a piece of storage in the cluster.
use crate::cells::{UNSET, access_modes, storage_class, text_or};
use crate::core::volume_validation;
use crate::fields::{Fill, Read};
use crate::quantities;
use api_meta::FieldErrors;
use api_resource::{Column, Names, Resource, ResourceScope, Row, STATUS, Subresource, WriteContext, text};
use serde_json::{Value, json};

pub struct PersistentVolumes;

impl Resource for PersistentVolumes {
    const NAMES: Names = Names::with("", "v1", "PersistentVolume", "persistentvolumes", "persistentvolume", const { &[text("pv")] }, &[]);
    const RETURNS_DELETED: bool = true;
    const SCOPE: ResourceScope = ResourceScope::Cluster;
    const COLUMNS: &'static [Column] = &[
        Column::with("Capacity", |row| row.object["spec"]["capacity"]["storage"].text().into()),
        Column::with("Access Modes", |row| access_modes(&row.object["spec"]["accessModes"]).into()),
        Column::with("Reclaim Policy", |row| row.object["spec"]["persistentVolumeReclaimPolicy"].text().into()),
        Column::with(
            "Status",
            |row| if row.object["metadata"]["deletionTimestamp"].is_set() { "Terminating".into() } else { row.object["status"]["phase"].clone() },
        ),
        Column::with("Claim", claim),
        Column::with("StorageClass", |row| storage_class(row.object)),
        Column::with("VolumeAttributesClass", |row| text_or(&row.object["spec"]["volumeAttributesClassName"], UNSET)),
        Column::with("Reason", |row| row.object["status"]["reason"].text().into()),
        Column::with("VolumeMode", |row| text_or(&row.object["spec"]["volumeMode"], UNSET)).wide(),
    ];
    const SUBRESOURCES: &'static [Subresource] = &[STATUS];
    const GENERATION: bool = false;
    fn default(object: &mut Value) {
        object.open("status").zero("phase", "Pending");
        let spec = object.open("spec");
        spec.zero("persistentVolumeReclaimPolicy", "Retain");
        spec.absent("volumeMode", "Filesystem");
        quantities::canonical_map(spec, "capacity");
        for (source, field, value) in [
            ("hostPath", "type", ""),
            ("iscsi", "iscsiInterface", "default"),
            ("rbd", "pool", "rbd"),
            ("rbd", "user", "admin"),
            ("rbd", "keyring", "/etc/ceph/keyring"),
        ] {
            if let Some(source) = spec.child(source) {
                source.absent(field, value);
            }
        }
    }
    fn prepare_create(object: &mut Value, context: &WriteContext) {
        object.put("status", json!({"phase": "Pending", "lastPhaseTransitionTime": timestamp(context)}));
    }
    fn prepare_part(_subresource: &str, new: &mut Value, old: &Value, context: &WriteContext) {
        let (new_status, old_status) = (new.open("status"), &old["status"]);
        let since = |status: &Value| status.get("lastPhaseTransitionTime").cloned();
        if new_status["phase"] != old_status["phase"] && (since(new_status).is_none() || since(new_status) == since(old_status)) {
            new_status.put("lastPhaseTransitionTime", timestamp(context));
        }
    }
    fn validate(new: &Value, old: Option<&Value>) -> FieldErrors {
        volume_validation::volume(new, old)
    }
}

fn timestamp(context: &WriteContext) -> String {
    context.now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn claim(row: &Row) -> Value {
    let claim = &row.object["spec"]["claimRef"];
    if claim.is_null() { "".into() } else { format!("{}/{}", claim["namespace"].text(), claim["name"].text()).into() }
}
