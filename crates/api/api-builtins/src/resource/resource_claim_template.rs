//! ResourceClaimTemplate: makes a ResourceClaim for each pod.
use crate::fields::Fill;
use crate::resource::device_requests;
use api_resource::{Names, Resource};
use serde_json::Value;

pub struct ResourceClaimTemplates;

impl Resource for ResourceClaimTemplates {
    const NAMES: Names = Names::new("resource.k8s.io", "v1", "ResourceClaimTemplate", "resourceclaimtemplates", "resourceclaimtemplate");
    const GENERATION: bool = false;
    fn default(object: &mut Value) {
        device_requests::default(object.open("spec").open("spec"));
    }
}
