//! VolumeAttachment: the wish to attach a volume to a node.
use crate::check::{At, Report};
use crate::fields::{Fill, Read};
use api_meta::{FieldErrors, names};
use api_resource::{Column, Names, Resource, ResourceScope, STATUS, Subresource, WriteContext};
use serde_json::{Value, json};

pub struct VolumeAttachments;

impl Resource for VolumeAttachments {
    const NAMES: Names = Names::new("storage.k8s.io", "v1", "VolumeAttachment", "volumeattachments", "volumeattachment");
    const RETURNS_DELETED: bool = true;
    const SCOPE: ResourceScope = ResourceScope::Cluster;
    const COLUMNS: &'static [Column] = &[
        Column { format: "name", ..Column::path("Attacher", ".spec.attacher") },
        Column::with("PV", |row| row.object["spec"]["source"]["persistentVolumeName"].text().into()),
        Column::path("Node", ".spec.nodeName"),
        Column::with("Attached", |row| row.object["status"]["attached"].flag().into()).boolean(),
    ];
    const SUBRESOURCES: &'static [Subresource] = &[STATUS];
    const GENERATION: bool = false;
    const UNCONDITIONAL_UPDATE: bool = false;
    fn default(object: &mut Value) {
        object.open("status").absent("attached", false);
    }
    fn validate(new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let root = At::root(new);
        let spec = root.field("spec");
        errors.named(&spec.field("attacher"), crate::pod_spec::csi_driver_name);
        let node = spec.field("nodeName");
        errors.reasons(&node, names::dns1123_subdomain(node.text()));
        let (source, volume, inline) = (spec.field("source"), spec.field("source.persistentVolumeName"), spec.field("source.inlineVolumeSpec"));
        match (volume.is_set(), inline.is_set()) {
            (false, false) => errors.required(&source, "must specify exactly one of inlineVolumeSpec and persistentVolumeName"),
            (true, true) => errors.invalid(&source, "must specify exactly one of inlineVolumeSpec and persistentVolumeName"),
            _ => {}
        }
        errors.named_if_set(&volume, names::dns1123_subdomain);
        if let Some(old) = old {
            errors.immutable(&spec, &old["spec"]);
        }
        errors
    }
    fn prepare_create(object: &mut Value, _context: &WriteContext) {
        object.put("status", json!({"attached": false}));
    }
}
