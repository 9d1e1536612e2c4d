//! NodeName: a pod that names its node runs there or nowhere.
use super::Filter;
use crate::fit_error::Rejection;
use crate::{NodeInfo, Plugin, PodInfo};

pub struct NodeName<'a>(&'a str);

pub fn prepare(pod: &PodInfo) -> Option<NodeName<'_>> {
    pod.pod.spec.as_ref()?.node_name.as_deref().filter(|name| !name.is_empty()).map(NodeName)
}

impl Filter for NodeName<'_> {
    fn plugin(&self) -> Plugin {
        Plugin::NodeName
    }
    fn check(&self, node: &NodeInfo) -> Result<(), Rejection> {
        if *node.name == *self.0 { Ok(()) } else { Err(Rejection::unresolvable("node(s) didn't match the requested node name")) }
    }
}
