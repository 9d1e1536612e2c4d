//! NodeAffinity: the node must have what nodeSelector and required node affinity ask for.
use super::Filter;
use crate::fit_error::Rejection;
use crate::{NodeInfo, Plugin, PodInfo};
use controller_kit::node_selector::RequiredNodes;

pub struct NodeAffinity(RequiredNodes);

pub fn prepare(pod: &PodInfo) -> Option<NodeAffinity> {
    let required = RequiredNodes::of(pod.pod.spec.as_ref()?);
    (!required.is_any()).then_some(NodeAffinity(required))
}

impl Filter for NodeAffinity {
    fn plugin(&self) -> Plugin {
        Plugin::NodeAffinity
    }
    fn check(&self, node: &NodeInfo) -> Result<(), Rejection> {
        if self.0.matches(node.own_name(), node.labels()) { Ok(()) } else { Err(Rejection::unresolvable("node(s) didn't match Pod's node affinity/selector")) }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use serde_json::json;

    #[test]
    fn selectors_choose_and_pins_leave_the_others_out() {
        let snapshot = snapshot(vec![node("n1", json!({})), node("n2", json!({"metadata": {"labels": {"disk": "ssd"}}}))], &[]);
        assert_eq!(outcome(&pod("a", json!({"nodeSelector": {"disk": "ssd"}})), &snapshot), "n2");
        assert_eq!(
            outcome(&pod("a", json!({"nodeSelector": {"disk": "none"}})), &snapshot),
            "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector."
        );
        let pinned = |cpu: &str| {
            let mut spec = requests(cpu, "1Mi");
            spec["affinity"] = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}]}}});
            outcome(&pod("a", spec), &snapshot)
        };
        assert_eq!(pinned("1"), "n1");
        assert_eq!(pinned("5"), "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) didn't satisfy plugin(s) [NodeAffinity].");
    }
}
