//! PriorityLevelConfiguration: how requests of a priority level share the server.
use api_resource::{Names, Resource, ResourceScope, STATUS, Subresource};

pub struct PriorityLevelConfigurations;

impl Resource for PriorityLevelConfigurations {
    const NAMES: Names =
        Names::new("flowcontrol.apiserver.k8s.io", "v1", "PriorityLevelConfiguration", "prioritylevelconfigurations", "prioritylevelconfiguration");
    const SCOPE: ResourceScope = ResourceScope::Cluster;
    const SUBRESOURCES: &'static [Subresource] = &[STATUS];
}
