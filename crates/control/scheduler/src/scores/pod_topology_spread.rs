//! PodTopologySpread: the parts of the nodes with fewer pods alike, for constraints that are only wished.
use super::{MAX, Score};
use crate::filters::pod_topology_spread::{Constraint, constraints};
use crate::{NodeInfo, PodInfo, Snapshot};
use controller_kit::node_selector::RequiredNodes;
use std::collections::HashMap;

const HOSTNAME: &str = "kubernetes.io/hostname";
/// Marks a node that lacks a topology key: it gets nothing.
const IGNORED: i64 = i64::MIN;

struct Weighed {
    constraint: Constraint,
    /// Pods in each part; a hostname's are counted on the node itself.
    counts: HashMap<String, i64>,
    weight: f64,
}

pub struct PodTopologySpread<'a> {
    pod: &'a PodInfo,
    constraints: Vec<Weighed>,
}

pub fn prepare<'a>(pod: &'a PodInfo, snapshot: &Snapshot, fit: &[usize]) -> Option<PodTopologySpread<'a>> {
    let constraints = constraints(pod, "ScheduleAnyway");
    if constraints.is_empty() {
        return None;
    }
    let required = pod.pod.spec.as_ref().map(RequiredNodes::of).unwrap_or_default();
    let keys: Vec<String> = constraints.iter().map(|constraint| constraint.topology_key.clone()).collect();
    let has_all = |node: &NodeInfo| keys.iter().all(|key| node.label(key).is_some());
    let placed = || fit.iter().map(|at| &snapshot.nodes()[*at]).filter(|node| has_all(node));
    let weighed = constraints.into_iter().map(|constraint| {
        let mut counts: HashMap<String, i64> = HashMap::new();
        let parts = if constraint.topology_key == HOSTNAME {
            placed().count()
        } else {
            for node in placed() {
                if let Some(part) = node.label(&constraint.topology_key).filter(|part| !counts.contains_key(*part)) {
                    counts.insert(part.to_owned(), 0);
                }
            }
            for node in snapshot.nodes().iter().filter(|node| has_all(node) && constraint.includes(pod, &required, node)) {
                if let Some(count) = node.label(&constraint.topology_key).and_then(|part| counts.get_mut(part)) {
                    *count += constraint.count_on(pod, node);
                }
            }
            counts.len()
        };
        // More parts mean fewer pods in each: the weight makes up for it.
        Weighed { constraint, counts, weight: ((parts + 2) as f64).ln() }
    });
    Some(PodTopologySpread { pod, constraints: weighed.collect() })
}

impl Score for PodTopologySpread<'_> {
    fn weight(&self) -> i64 {
        2
    }

    fn score(&self, node: &NodeInfo) -> i64 {
        let mut score = 0.0;
        for Weighed { constraint, counts, weight } in &self.constraints {
            let Some(part) = node.label(&constraint.topology_key) else { return IGNORED };
            let count = if constraint.topology_key == HOSTNAME { constraint.count_on(self.pod, node) } else { counts.get(part).copied().unwrap_or_default() };
            score += count as f64 * weight + (constraint.max_skew - 1) as f64;
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
