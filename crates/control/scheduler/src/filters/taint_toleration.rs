//! TaintToleration: hard taints must be tolerated.
use super::Filter;
use crate::fit_error::Rejection;
use crate::{NodeInfo, Plugin, PodInfo};
use controller_kit::tolerations::any_tolerates;
use k8s_openapi::api::core::v1::Toleration;

pub struct TaintToleration<'a>(&'a [Toleration]);

pub fn prepare(pod: &PodInfo) -> Option<TaintToleration<'_>> {
    Some(TaintToleration(pod.pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default()))
}

impl Filter for TaintToleration<'_> {
    fn plugin(&self) -> Plugin {
        Plugin::TaintToleration
    }
    fn check(&self, node: &NodeInfo) -> Result<(), Rejection> {
        if !node.has_hard_taints {
            return Ok(());
        }
        let mut hard = node.taints().iter().filter(|taint| taint.effect != "PreferNoSchedule");
        if hard.all(|taint| any_tolerates(self.0, taint)) { Ok(()) } else { Err(Rejection::unresolvable("node(s) had untolerated taint(s)")) }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use serde_json::json;

    #[test]
    fn hard_taints_must_be_tolerated_and_soft_ones_need_not() {
        let tainted = |effect: &str| snapshot(vec![node("n1", json!({"spec": {"taints": [{"key": "k", "value": "v", "effect": effect}]}}))], &[]);
        let refused = "0/1 nodes are available: 1 node(s) had untolerated taint(s).";
        let tolerant = pod("a", json!({"tolerations": [{"key": "k", "operator": "Equal", "value": "v"}]}));
        for (effect, plain) in [("NoSchedule", refused), ("NoExecute", refused), ("PreferNoSchedule", "n1")] {
            assert_eq!(outcome(&pod("a", json!({})), &tainted(effect)), plain, "{effect}");
            assert_eq!(outcome(&tolerant, &tainted(effect)), "n1", "{effect}");
        }
    }
}
