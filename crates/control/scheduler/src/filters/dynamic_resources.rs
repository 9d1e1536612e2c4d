//! DynamicResources: a pod runs where its claims' devices are, or where there are devices for them.
use super::Filter;
use crate::fit_error::Rejection;
use crate::{Devices, NodeInfo, Plugin};

/// What a node is refused for where a claim's devices can't be used.
pub const ELSEWHERE: &str = "resourceclaim not available on the node";

pub struct DynamicResources<'a>(&'a Devices);

pub fn prepare(devices: &Devices) -> Option<DynamicResources<'_>> {
    (!devices.is_empty()).then_some(DynamicResources(devices))
}

impl Filter for DynamicResources<'_> {
    fn plugin(&self) -> Plugin {
        Plugin::DynamicResources
    }
    fn check(&self, node: &NodeInfo) -> Result<(), Rejection> {
        let reachable = |terms: &Vec<controller_kit::node_selector::NodeTerm>| terms.iter().any(|term| term.matches(node.own_name(), node.labels()));
        if !self.0.allocated.iter().all(|claim| claim.nodes.as_ref().is_none_or(reachable)) {
            return Err(Rejection::unresolvable(ELSEWHERE));
        }
        match self.0.on(node) {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(Rejection::resolvable("cannot allocate all claims")),
            Err(why) => Err(Rejection::resolvable(why)),
        }
    }
}
