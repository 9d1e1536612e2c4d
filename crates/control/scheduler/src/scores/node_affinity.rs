//! NodeAffinity: the node with more of what the pod prefers.
use super::{Score, normalize_to_highest};
use crate::{NodeInfo, PodInfo};
use controller_kit::node_selector::NodeTerm;

pub struct NodeAffinity(Vec<(i64, NodeTerm)>);

pub fn prepare(pod: &PodInfo) -> Option<NodeAffinity> {
    let affinity = pod.pod.spec.as_ref()?.affinity.as_ref()?.node_affinity.as_ref()?;
    let preferred = affinity.preferred_during_scheduling_ignored_during_execution.as_ref().filter(|terms| !terms.is_empty())?;
    Some(NodeAffinity(preferred.iter().map(|term| (i64::from(term.weight), NodeTerm::new(&term.preference))).collect()))
}

impl Score for NodeAffinity {
    fn weight(&self) -> i64 {
        2
    }
    fn score(&self, node: &NodeInfo) -> i64 {
        self.0.iter().filter(|(_, term)| term.matches(node.own_name(), node.labels())).map(|(weight, _)| weight).sum()
    }
    fn normalize(&self, scores: &mut [i64]) {
        normalize_to_highest(scores, false);
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use serde_json::json;

    #[test]
    fn the_preferred_node_wins() {
        let snapshot = snapshot(vec![node("n1", json!({})), node("n2", json!({"metadata": {"labels": {"disk": "ssd"}}}))], &[]);
        let prefers = json!({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution":
            [{"weight": 5, "preference": {"matchExpressions": [{"key": "disk", "operator": "Exists"}]}}]}}});
        assert_eq!(outcome(&pod("a", prefers), &snapshot), "n2");
    }
}
