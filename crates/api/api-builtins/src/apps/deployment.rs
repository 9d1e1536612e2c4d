//! Deployment: rolls out ReplicaSets.
use api_resource::{ALL, Names, Resource, SCALE, STATUS, Subresource, text};

pub struct Deployments;

impl Resource for Deployments {
    const NAMES: Names = Names::with("apps", "v1", "Deployment", "deployments", "deployment", const { &[text("deploy")] }, ALL);
    const SUBRESOURCES: &'static [Subresource] = &[STATUS, SCALE];
}
