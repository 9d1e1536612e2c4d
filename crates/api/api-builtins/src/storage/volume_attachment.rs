//! VolumeAttachment: the wish to attach a volume to a node.
use crate::fields::{Fill, Read};
use api_resource::{Column, Names, Resource, ResourceScope, STATUS, Subresource};
use serde_json::Value;

pub struct VolumeAttachments;

impl Resource for VolumeAttachments {
    const NAMES: Names = Names::new("storage.k8s.io", "v1", "VolumeAttachment", "volumeattachments", "volumeattachment");
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
}
