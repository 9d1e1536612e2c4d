//! NodeResourcesFit with strategy LeastAllocated: the node with more left over.
use super::{MAX, Score};
use crate::{NodeInfo, PodInfo};

pub struct LeastAllocated {
    cpu: i64,
    memory: i64,
}

pub fn prepare(pod: &PodInfo) -> LeastAllocated {
    LeastAllocated { cpu: pod.scored.0, memory: pod.scored.1 }
}

impl Score for LeastAllocated {
    fn weight(&self) -> i64 {
        1
    }
    fn score(&self, node: &NodeInfo) -> i64 {
        let (mut sum, mut resources) = (0, 0);
        for (have, used) in [(node.allocatable.cpu, node.scored.0 + self.cpu), (node.allocatable.memory, node.scored.1 + self.memory)] {
            if have > 0 {
                resources += 1;
                sum += if used > have { 0 } else { (have - used) * MAX / have };
            }
        }
        if resources == 0 { 0 } else { sum / resources }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use serde_json::json;

    #[test]
    fn the_emptier_node_wins_also_for_pods_that_request_nothing() {
        let nodes = || vec![node("n1", json!({})), node("n2", json!({}))];
        let used = snapshot(nodes(), &[(pod("there", requests("1", "1Gi")), "n1")]);
        assert_eq!(outcome(&pod("a", requests("1", "1Gi")), &used), "n2");
        let idle = snapshot(nodes(), &[(pod("there", json!({})), "n1")]);
        assert_eq!(outcome(&pod("a", json!({})), &idle), "n2");
    }
}
