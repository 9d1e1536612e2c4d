//! NetworkPolicy: what traffic pods may receive and send.
use api_resource::{Names, Resource, text};

pub struct NetworkPolicies;

impl Resource for NetworkPolicies {
    const NAMES: Names = Names::with("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies", "networkpolicy", const { &[text("netpol")] }, &[]);
}
