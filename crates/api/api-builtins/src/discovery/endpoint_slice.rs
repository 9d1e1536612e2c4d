//! EndpointSlice: some of the endpoints of a Service.
use api_resource::{Names, Resource};

pub struct EndpointSlices;

impl Resource for EndpointSlices {
    const NAMES: Names = Names::new("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", "endpointslice");
}
