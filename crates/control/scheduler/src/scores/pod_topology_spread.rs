//! PodTopologySpread: the parts of the nodes with fewer pods alike, for constraints that are only wished.
use super::{MAX, Score};
use crate::filters::pod_topology_spread::{Constraint, constraints};
use crate::spread_tally::{PartBy, Parts};
use crate::{NodeInfo, PodInfo, Snapshot};
use std::collections::HashSet;
use std::sync::Arc;

const HOSTNAME: &str = "kubernetes.io/hostname";
/// Marks a node that lacks a topology key: it gets nothing.
const IGNORED: i64 = i64::MIN;

struct Weighed {
    constraint: Constraint,
    /// Pods in each part; a hostname's are counted on the node itself.
    parts: Arc<Parts>,
    weight: f64,
}

pub struct PodTopologySpread {
    constraints: Vec<Weighed>,
}

pub fn prepare(pod: &PodInfo, snapshot: &Snapshot, fit: &[usize]) -> Option<PodTopologySpread> {
    let constraints = constraints(pod, "ScheduleAnyway");
    if constraints.is_empty() {
        return None;
    }
    let keys: Vec<String> = constraints.iter().map(|constraint| constraint.topology_key.clone()).collect();
    let has_all = |node: &NodeInfo| keys.iter().all(|key| node.label(key).is_some());
    let placed: Vec<&NodeInfo> = fit.iter().map(|at| &snapshot.nodes()[*at]).filter(|node| has_all(node)).collect();
    let weighed = constraints.into_iter().map(|constraint| {
        let (part_by, parts) = if constraint.topology_key == HOSTNAME {
            (PartBy::Node, placed.len())
        } else {
            let parts: HashSet<&str> = placed.iter().filter_map(|node| node.label(&constraint.topology_key)).collect();
            (PartBy::Label(constraint.topology_key.clone()), parts.len())
        };
        // More parts mean fewer pods in each: the weight makes up for it.
        Weighed { parts: snapshot.spread(constraint.question(pod, part_by, &keys)), constraint, weight: ((parts + 2) as f64).ln() }
    });
    Some(PodTopologySpread { constraints: weighed.collect() })
}

impl Score for PodTopologySpread {
    fn weight(&self) -> i64 {
        2
    }

    fn score(&self, node: &NodeInfo) -> i64 {
        let mut score = 0.0;
        for Weighed { constraint, parts, weight } in &self.constraints {
            let Some(part) = node.label(&constraint.topology_key) else { return IGNORED };
            let part = if constraint.topology_key == HOSTNAME { &node.name } else { part };
            score += parts.pods_in(part).unwrap_or_default() as f64 * weight + (constraint.max_skew - 1) as f64;
        }
        score.round() as i64
    }

    fn normalize(&self, scores: &mut [i64]) {
        let real = || scores.iter().copied().filter(|score| *score != IGNORED);
        let (least, most) = (real().min().unwrap_or_default(), real().max().unwrap_or_default());
        for score in scores {
            *score = match *score {
                IGNORED => 0,
                _ if most == 0 => MAX,
                score => MAX * (most + least - score) / most,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use serde_json::json;

    #[test]
    fn the_emptier_part_is_preferred_but_not_required() {
        let zone = |name: &str, zone: &str| node(name, json!({"metadata": {"labels": {"zone": zone}}}));
        let wish = |key: &str| json!({"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {"matchLabels": {"app": "a"}}}]});
        let there = snapshot(vec![zone("n1", "x"), zone("n2", "x"), zone("n3", "y")], &[(pod("a1", json!({})), "n1"), (pod("b", requests("1", "1Gi")), "n3")]);
        assert_eq!(outcome(&pod("a", wish("zone")), &there), "n3");
        assert_eq!(outcome(&pod("a", wish("kubernetes.io/hostname")), &there), "n2");
    }
}
