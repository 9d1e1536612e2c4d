//! DeviceClass: a named selection of devices.
use crate::check::{At, Report};
use crate::fields::Read;
use crate::quantities::is_extended;
use crate::resource::device_requests;
use api_meta::FieldErrors;
use api_resource::{Names, Resource, ResourceScope};
use serde_json::Value;

pub struct DeviceClasses;

impl Resource for DeviceClasses {
    const NAMES: Names = Names::new("resource.k8s.io", "v1", "DeviceClass", "deviceclasses", "deviceclass");
    const RETURNS_DELETED: bool = true;
    const SCOPE: ResourceScope = ResourceScope::Cluster;
    fn validate(new: &Value, old: Option<&Value>) -> FieldErrors {
        const MOST_CONFIGS: usize = 32;
        let mut errors = FieldErrors::new();
        let root = At::root(new);
        let stored = old.is_some_and(|old| old["spec"]["selectors"] == new["spec"]["selectors"]);
        device_requests::selectors(&mut errors, &root.field("spec.selectors"), stored);
        let configs = root.field("spec.config");
        if configs.list().len() > MOST_CONFIGS {
            errors.too_many(&configs, configs.list().len(), MOST_CONFIGS);
        }
        configs.items().for_each(|config| device_requests::configuration(&mut errors, &config));
        let resource = root.field("spec.extendedResourceName");
        if resource.is_set() && !is_extended(resource.text()) {
            errors.invalid(&resource, "must be a valid extended resource name");
        }
        errors
    }
}
