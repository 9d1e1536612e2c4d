//! ServiceCIDR: a range that Service addresses come from.
use api_resource::{Names, Resource, ResourceScope, STATUS, Subresource};

pub struct ServiceCIDRs;

impl Resource for ServiceCIDRs {
    const NAMES: Names = Names::new("networking.k8s.io", "v1", "ServiceCIDR", "servicecidrs", "servicecidr");
    const SCOPE: ResourceScope = ResourceScope::Cluster;
    const SUBRESOURCES: &'static [Subresource] = &[STATUS];
    const GENERATION: bool = false;
}
