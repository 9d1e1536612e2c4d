//! DeviceClass: a named selection of devices.
use api_resource::{Names, Resource, ResourceScope};

pub struct DeviceClasses;

impl Resource for DeviceClasses {
    const NAMES: Names = Names::new("resource.k8s.io", "v1", "DeviceClass", "deviceclasses", "deviceclass");
    const SCOPE: ResourceScope = ResourceScope::Cluster;
}
