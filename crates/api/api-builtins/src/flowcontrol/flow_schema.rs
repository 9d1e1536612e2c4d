//! FlowSchema: which requests belong to which priority level.
use api_resource::{Names, Resource, ResourceScope, STATUS, Subresource};

pub struct FlowSchemas;

impl Resource for FlowSchemas {
    const NAMES: Names = Names::new("flowcontrol.apiserver.k8s.io", "v1", "FlowSchema", "flowschemas", "flowschema");
    const SCOPE: ResourceScope = ResourceScope::Cluster;
    const SUBRESOURCES: &'static [Subresource] = &[STATUS];
}
