//! IngressClass: names the controller that serves an Ingress.
use api_resource::{Names, Resource, ResourceScope};

pub struct IngressClasses;

impl Resource for IngressClasses {
    const NAMES: Names = Names::new("networking.k8s.io", "v1", "IngressClass", "ingressclasses", "ingressclass");
    const SCOPE: ResourceScope = ResourceScope::Cluster;
}
