//! Ingress: HTTP routes to Services.
use api_resource::{Names, Resource, STATUS, Subresource, text};

pub struct Ingresses;

impl Resource for Ingresses {
    const NAMES: Names = Names::with("networking.k8s.io", "v1", "Ingress", "ingresses", "ingress", const { &[text("ing")] }, &[]);
    const SUBRESOURCES: &'static [Subresource] = &[STATUS];
}
