//! TaintToleration: fewer soft taints the pod does not tolerate are better.
use super::{Score, normalize_to_highest};
use crate::{NodeInfo, PodInfo, Snapshot};
use controller_kit::tolerations::any_tolerates;
use k8s_openapi::api::core::v1::Toleration;

pub struct TaintToleration(Vec<Toleration>);

pub fn prepare(pod: &PodInfo, snapshot: &Snapshot, fit: &[usize]) -> Option<TaintToleration> {
    if !fit.iter().any(|at| snapshot.nodes()[*at].has_soft_taints) {
        return None;
    }
    let tolerations = pod.pod.spec.iter().flat_map(|spec| spec.tolerations.iter().flatten());
    let soft = tolerations.filter(|toleration| matches!(toleration.effect.as_deref(), None | Some("" | "PreferNoSchedule")));
    Some(TaintToleration(soft.cloned().collect()))
}

impl Score for TaintToleration {
    fn weight(&self) -> i64 {
        3
    }
    fn score(&self, node: &NodeInfo) -> i64 {
        node.taints().iter().filter(|taint| taint.effect == "PreferNoSchedule" && !any_tolerates(&self.0, taint)).count() as i64
    }
    fn normalize(&self, scores: &mut [i64]) {
        normalize_to_highest(scores, true);
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use serde_json::json;

    #[test]
    fn softly_tainted_nodes_are_avoided_unless_tolerated() {
        let soft = json!({"spec": {"taints": [{"key": "k", "effect": "PreferNoSchedule"}]}});
        let snapshot = snapshot(vec![node("n1", soft), node("n2", json!({}))], &[(pod("there", requests("100m", "100Mi")), "n2")]);
        assert_eq!(outcome(&pod("a", json!({})), &snapshot), "n2");
        assert_eq!(outcome(&pod("a", json!({"tolerations": [{"key": "k", "operator": "Exists"}]})), &snapshot), "n1");
    }
}
