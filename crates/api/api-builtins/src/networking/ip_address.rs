//! IPAddress: an address in use by a Service.
use api_resource::{Names, Resource, ResourceScope, text};

pub struct IPAddresses;

impl Resource for IPAddresses {
    const NAMES: Names = Names::with("networking.k8s.io", "v1", "IPAddress", "ipaddresses", "ipaddress", const { &[text("ip")] }, &[]);
    const SCOPE: ResourceScope = ResourceScope::Cluster;
    const GENERATION: bool = false;
}
