//! NodeResourcesBalancedAllocation: the node whose CPU and memory fill up alike.
use super::{MAX, Score};
use crate::{NodeInfo, PodInfo};

pub struct BalancedAllocation {
    cpu: i64,
    memory: i64,
}

pub fn prepare(pod: &PodInfo) -> Option<BalancedAllocation> {
    // A pod that requests neither changes no balance.
    (pod.requests.cpu > 0 || pod.requests.memory > 0).then_some(BalancedAllocation { cpu: pod.requests.cpu, memory: pod.requests.memory })
}

impl Score for BalancedAllocation {
    fn weight(&self) -> i64 {
        1
    }
    fn score(&self, node: &NodeInfo) -> i64 {
        let fraction = |have: i64, used: i64| if have <= 0 { None } else { Some((used as f64 / have as f64).min(1.0)) };
        let cpu = fraction(node.allocatable.cpu, node.requested.cpu + self.cpu);
        let memory = fraction(node.allocatable.memory, node.requested.memory + self.memory);
        // The standard deviation of two values is half their distance.
        let deviation = match (cpu, memory) {
            (Some(cpu), Some(memory)) => (cpu - memory).abs() / 2.0,
            _ => 0.0,
        };
        ((1.0 - deviation) * MAX as f64) as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use serde_json::json;

    #[test]
    fn unequal_use_costs_half_the_distance() {
        let snapshot = snapshot(vec![node("n1", json!({}))], &[(pod("there", requests("1", "0")), "n1")]);
        let info = pod("a", requests("1", "2Gi"));
        assert_eq!(prepare(&info).unwrap().score(snapshot.node("n1").unwrap()), 87);
        assert!(prepare(&pod("a", json!({}))).is_none());
    }
}
