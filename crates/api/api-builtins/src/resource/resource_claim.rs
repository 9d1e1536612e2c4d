//! ResourceClaim: a request for devices.
use api_resource::{Names, Resource, STATUS, Subresource};

pub struct ResourceClaims;

impl Resource for ResourceClaims {
    const NAMES: Names = Names::new("resource.k8s.io", "v1", "ResourceClaim", "resourceclaims", "resourceclaim");
    const SUBRESOURCES: &'static [Subresource] = &[STATUS];
    const GENERATION: bool = false;
}
