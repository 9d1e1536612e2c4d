//! VolumeRestrictions: a ReadWriteOncePod claim is one pod's at a time (KEP 2485).
use super::Filter;
use crate::fit_error::Rejection;
use crate::volumes::claim_names;
use crate::{NodeInfo, Plugin, PodInfo, Snapshot, Volumes};
use controller_kit::ObjectKey;
use std::collections::HashSet;

pub struct VolumeRestrictions<'a> {
    pod: &'a PodInfo,
    exclusive: &'a [String],
    /// How many pods use such a claim, on all nodes.
    uses: i64,
}

pub fn prepare<'a>(pod: &'a PodInfo, volumes: &'a Volumes, snapshot: &Snapshot) -> Option<VolumeRestrictions<'a>> {
    if volumes.exclusive.is_empty() {
        return None;
    }
    let users: HashSet<&ObjectKey> = volumes.exclusive.iter().flat_map(|claim| snapshot.claims().others(pod, claim)).collect();
    Some(VolumeRestrictions { pod, exclusive: &volumes.exclusive, uses: users.len().try_into().unwrap_or(i64::MAX) })
}

impl VolumeRestrictions<'_> {
    fn conflicts(&self, other: &PodInfo) -> bool {
        let same_place = other.key.cluster == self.pod.key.cluster && other.key.namespace == self.pod.key.namespace && other.key != self.pod.key;
        same_place && claim_names(&other.pod).iter().any(|(name, _)| self.exclusive.contains(name))
    }
}

impl Filter for VolumeRestrictions<'_> {
    fn plugin(&self) -> Plugin {
        Plugin::VolumeRestrictions
    }
    fn check(&self, _node: &NodeInfo) -> Result<(), Rejection> {
        if self.uses <= 0 {
            return Ok(());
        }
        Err(Rejection::resolvable("node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode"))
    }
    fn imagine(&mut self, pod: &PodInfo, _node: &NodeInfo, by: i64) {
        if self.conflicts(pod) {
            self.uses += by;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{node, pod, snapshot};
    use serde_json::json;

    #[test]
    fn a_claim_of_one_pod_is_refused_to_the_next_until_the_first_is_gone() {
        let user = |claim: &str| json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": claim}}]});
        let first = pod("first", user("data"));
        let snapshot = snapshot(vec![node("n1", json!({})), node("n2", json!({}))], &[(first.clone(), "n1")]);
        let volumes = Volumes { exclusive: vec!["data".into()], ..Default::default() };
        let second = pod("second", user("data"));
        let mut filter = prepare(&second, &volumes, &snapshot).unwrap();
        assert!(snapshot.nodes().iter().all(|node| filter.check(node).is_err()), "no node is free of it");
        filter.imagine(&first, &snapshot.nodes()[0], -1);
        assert!(filter.check(&snapshot.nodes()[1]).is_ok());
        // Who goes takes the use along, whoever still asks for itself is in nobody's way.
        let mut snapshot = snapshot;
        assert!(prepare(&first, &volumes, &snapshot).unwrap().check(&snapshot.nodes()[0]).is_ok());
        snapshot.remove_pod(&first.key);
        assert!(prepare(&second, &volumes, &snapshot).unwrap().check(&snapshot.nodes()[0]).is_ok());
        let other = Volumes { exclusive: vec!["other".into()], ..Default::default() };
        assert!(prepare(&pod("third", user("other")), &other, &snapshot).unwrap().check(&snapshot.nodes()[0]).is_ok());
    }
}
