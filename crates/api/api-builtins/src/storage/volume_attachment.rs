//! VolumeAttachment: the wish to attach a volume to a node.
use api_resource::{Names, Resource, ResourceScope, STATUS, Subresource};

pub struct VolumeAttachments;

impl Resource for VolumeAttachments {
    const NAMES: Names = Names::new("storage.k8s.io", "v1", "VolumeAttachment", "volumeattachments", "volumeattachment");
    const SCOPE: ResourceScope = ResourceScope::Cluster;
    const SUBRESOURCES: &'static [Subresource] = &[STATUS];
    const GENERATION: bool = false;
    const UNCONDITIONAL_UPDATE: bool = false;
}
