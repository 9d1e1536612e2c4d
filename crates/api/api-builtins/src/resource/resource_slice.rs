//! ResourceSlice: devices of a pool.
use crate::cells::{NONE, text_or};
use crate::fields::selectable;
use api_resource::{Column, Field, Names, Resource, ResourceScope};

pub struct ResourceSlices;

impl Resource for ResourceSlices {
    const NAMES: Names = Names::new("resource.k8s.io", "v1", "ResourceSlice", "resourceslices", "resourceslice");
    const SCOPE: ResourceScope = ResourceScope::Cluster;
    const COLUMNS: &'static [Column] = &[
        Column::with("Node", |row| text_or(&row.object["spec"]["nodeName"], NONE)),
        Column::path("Driver", ".spec.driver"),
        Column::path("Pool", ".spec.pool.name"),
    ];
    const FIELDS: &'static [Field] = &[selectable("spec.nodeName", ""), selectable("spec.driver", "")];
}
