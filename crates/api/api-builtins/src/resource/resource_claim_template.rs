//! ResourceClaimTemplate: makes a ResourceClaim for each pod.
use crate::check::{At, Report};
use crate::fields::Fill;
use crate::resource::device_requests;
use api_meta::FieldErrors;
use api_resource::{Names, Resource};
use serde_json::Value;

pub struct ResourceClaimTemplates;

impl Resource for ResourceClaimTemplates {
    const NAMES: Names = Names::new("resource.k8s.io", "v1", "ResourceClaimTemplate", "resourceclaimtemplates", "resourceclaimtemplate");
    const RETURNS_DELETED: bool = true;
    const GENERATION: bool = false;
    fn default(object: &mut Value) {
        device_requests::default(object.open("spec").open("spec"));
    }
    fn validate(new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let root = At::root(new);
        let spec = root.field("spec");
        match old {
            Some(old) => errors.immutable(&spec, &old["spec"]),
            None => device_requests::validate(&mut errors, &spec.field("spec")),
        }
        errors
    }
}
