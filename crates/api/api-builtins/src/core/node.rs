//! Node: a machine that runs pods.
use crate::fields::selectable;
use crate::subresources::NODE_PROXY;
use api_resource::{Field, Names, Resource, ResourceScope, STATUS, Subresource, text};

pub struct Nodes;

impl Resource for Nodes {
    const NAMES: Names = Names::with("", "v1", "Node", "nodes", "node", const { &[text("no")] }, &[]);
    const SCOPE: ResourceScope = ResourceScope::Cluster;
    const SUBRESOURCES: &'static [Subresource] = &[STATUS, NODE_PROXY];
    const FIELDS: &'static [Field] = &[selectable("spec.unschedulable", "false")];
    const GENERATION: bool = false;
}
