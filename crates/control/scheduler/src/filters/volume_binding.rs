//! VolumeBinding: a pod runs where its bound volumes can be reached.
use super::Filter;
use crate::fit_error::Rejection;
use crate::{NodeInfo, Plugin, Volumes};

pub struct VolumeBinding<'a>(&'a Volumes);

pub fn prepare(volumes: &Volumes) -> Option<VolumeBinding<'_>> {
    (!volumes.affinities.is_empty()).then_some(VolumeBinding(volumes))
}

impl Filter for VolumeBinding<'_> {
    fn plugin(&self) -> Plugin {
        Plugin::VolumeBinding
    }
    fn check(&self, node: &NodeInfo) -> Result<(), Rejection> {
        let reachable = self.0.affinities.iter().all(|terms| terms.iter().any(|term| term.matches(node.own_name(), node.labels())));
        if reachable { Ok(()) } else { Err(Rejection::unresolvable("node(s) didn't match PersistentVolume's node affinity")) }
    }
}
