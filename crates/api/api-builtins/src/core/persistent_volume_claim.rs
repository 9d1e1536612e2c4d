//! PersistentVolumeClaim: a request for storage.
use api_resource::{Names, Resource, STATUS, Subresource, text};

pub struct PersistentVolumeClaims;

impl Resource for PersistentVolumeClaims {
    const NAMES: Names = Names::with("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims", "persistentvolumeclaim", const { &[text("pvc")] }, &[]);
    const SUBRESOURCES: &'static [Subresource] = &[STATUS];
    const GENERATION: bool = false;
}
