//! NodeVolumeLimits: a node has no more volumes of a driver than that says it may.
use super::Filter;
use crate::fit_error::Rejection;
use crate::volumes::{VolumeLimits, VolumeOfDriver, claim_names};
use crate::{NodeInfo, Plugin, PodInfo, Volumes};
use controller_kit::ObjectKey;
use std::collections::{BTreeMap, BTreeSet};

pub struct NodeVolumeLimits<'a> {
    limits: &'a VolumeLimits,
    /// Pods that are thought away, by node and pod.
    away: BTreeSet<(String, ObjectKey)>,
}

pub fn prepare(volumes: &Volumes) -> Option<NodeVolumeLimits<'_>> {
    volumes.limits.as_ref().map(|limits| NodeVolumeLimits { limits, away: BTreeSet::new() })
}

impl Filter for NodeVolumeLimits<'_> {
    fn plugin(&self) -> Plugin {
        Plugin::NodeVolumeLimits
    }

    fn check(&self, node: &NodeInfo) -> Result<(), Rejection> {
        let most = |driver: &str| self.limits.most.get(&(node.name.to_string(), driver.to_owned())).copied();
        if !self.limits.wanted.iter().any(|(driver, _)| most(driver).is_some()) {
            return Ok(());
        }
        let there = node.pods.iter().filter(|pod| !self.away.contains(&(node.name.to_string(), pod.key.clone())));
        let has: BTreeSet<&VolumeOfDriver> = there.flat_map(|pod| self.volumes_of(pod)).collect();
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        // A volume that several pods share counts once.
        for (driver, _) in has.iter().copied().chain(self.limits.wanted.iter().filter(|volume| !has.contains(volume))) {
            *counts.entry(driver).or_default() += 1;
        }
        let adds = |driver: &str| self.limits.wanted.iter().any(|volume| volume.0 == driver && !has.contains(volume));
        let exceeds = counts.iter().any(|(driver, count)| adds(driver) && most(driver).is_some_and(|most| *count > most));
        if exceeds { Err(Rejection::resolvable("node(s) exceed max volume count")) } else { Ok(()) }
    }

    fn imagine(&mut self, pod: &PodInfo, node: &NodeInfo, by: i64) {
        let key = (node.name.to_string(), pod.key.clone());
        if by < 0 {
            self.away.insert(key);
        } else {
            self.away.remove(&key);
        }
    }
}

impl NodeVolumeLimits<'_> {
    fn volumes_of(&self, pod: &PodInfo) -> Vec<&VolumeOfDriver> {
        let key = |name: &str| ObjectKey::new(&pod.key.cluster, &pod.key.namespace, name);
        claim_names(&pod.pod).iter().filter_map(|(name, _)| self.limits.of_claims.get(&key(name))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{node, pod, snapshot};
    use api_meta::ClusterName;
    use serde_json::json;

    #[test]
    fn a_node_takes_as_many_volumes_as_its_driver_says() {
        let user = |claim: &str| json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": claim}}]});
        let (first, second) = (pod("first", user("a")), pod("second", user("b")));
        let snapshot = snapshot(vec![node("n1", json!({})), node("n2", json!({}))], &[(first.clone(), "n1"), (second, "n1")]);
        let volume = |name: &str| ("d.example".to_owned(), name.to_owned());
        let key = |name: &str| ObjectKey::new(&ClusterName::root(), "n", name);
        let limits = |most: usize, wanted: &str| Volumes {
            limits: Some(VolumeLimits {
                most: [(("n1".to_owned(), "d.example".to_owned()), most)].into(),
                wanted: [volume(wanted)].into(),
                of_claims: ["a", "b", "c"].map(|name| (key(name), volume(name))).into(),
            }),
            ..Default::default()
        };
        let full = limits(2, "c");
        let mut filter = prepare(&full).unwrap();
        assert!(filter.check(&snapshot.nodes()[0]).is_err());
        assert!(filter.check(&snapshot.nodes()[1]).is_ok(), "another node has no limit");
        filter.imagine(&first, &snapshot.nodes()[0], -1);
        assert!(filter.check(&snapshot.nodes()[0]).is_ok(), "it is free once a pod is away");
        filter.imagine(&first, &snapshot.nodes()[0], 1);
        assert!(filter.check(&snapshot.nodes()[0]).is_err());
        let shared = limits(2, "a");
        assert!(prepare(&shared).unwrap().check(&snapshot.nodes()[0]).is_ok(), "it is there already");
        let more = limits(3, "c");
        assert!(prepare(&more).unwrap().check(&snapshot.nodes()[0]).is_ok());
    }
}
