//! ResourceClaimTemplate: makes a ResourceClaim for each pod.
use api_resource::{Names, Resource};

pub struct ResourceClaimTemplates;

impl Resource for ResourceClaimTemplates {
    const NAMES: Names = Names::new("resource.k8s.io", "v1", "ResourceClaimTemplate", "resourceclaimtemplates", "resourceclaimtemplate");
    const GENERATION: bool = false;
}
