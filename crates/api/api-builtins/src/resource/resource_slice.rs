//! ResourceSlice: devices of a pool.
use crate::fields::selectable;
use api_resource::{Field, Names, Resource, ResourceScope};

pub struct ResourceSlices;

impl Resource for ResourceSlices {
    const NAMES: Names = Names::new("resource.k8s.io", "v1", "ResourceSlice", "resourceslices", "resourceslice");
    const SCOPE: ResourceScope = ResourceScope::Cluster;
    const FIELDS: &'static [Field] = &[selectable("spec.nodeName", ""), selectable("spec.driver", "")];
}
