//! DeviceClass: a named selection of devices.
use crate::check::At;
use crate::resource::device_requests;
use api_meta::FieldErrors;
use api_resource::{Names, Resource, ResourceScope};
use serde_json::Value;

pub struct DeviceClasses;

impl Resource for DeviceClasses {
    const NAMES: Names = Names::new("resource.k8s.io", "v1", "DeviceClass", "deviceclasses", "deviceclass");
    const RETURNS_DELETED: bool = true;
    const SCOPE: ResourceScope = ResourceScope::Cluster;
    fn validate(new: &Value, _old: Option<&Value>) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let root = At::root(new);
        device_requests::selectors(&mut errors, &root.field("spec.selectors"));
        errors
    }
}
