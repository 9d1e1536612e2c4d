//! ServiceCIDR: a range that Service addresses come from.
use crate::fields::Read;
use api_resource::{Column, Names, Resource, ResourceScope, STATUS, Subresource};

pub struct ServiceCIDRs;

impl Resource for ServiceCIDRs {
    const NAMES: Names = Names::new("networking.k8s.io", "v1", "ServiceCIDR", "servicecidrs", "servicecidr");
    const SCOPE: ResourceScope = ResourceScope::Cluster;
    const COLUMNS: &'static [Column] = &[Column::with("CIDRs", |row| row.object["spec"]["cidrs"].texts().collect::<Vec<_>>().join(",").into())];
    const SUBRESOURCES: &'static [Subresource] = &[STATUS];
    const GENERATION: bool = false;
}
