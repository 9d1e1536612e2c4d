//! NodeUnschedulable: cordoned nodes take only pods that tolerate it.
use super::Filter;
use crate::fit_error::Rejection;
use crate::{NodeInfo, Plugin, PodInfo};
use controller_kit::tolerations::any_tolerates;
use k8s_openapi::api::core::v1::Taint;

pub struct NodeUnschedulable;

pub fn prepare(pod: &PodInfo) -> Option<NodeUnschedulable> {
    let taint = Taint { key: "node.kubernetes.io/unschedulable".into(), effect: "NoSchedule".into(), ..Default::default() };
    let tolerations = pod.pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    (!any_tolerates(tolerations, &taint)).then_some(NodeUnschedulable)
}

impl Filter for NodeUnschedulable {
    fn plugin(&self) -> Plugin {
        Plugin::NodeUnschedulable
    }
    fn check(&self, node: &NodeInfo) -> Result<(), Rejection> {
        if node.is_unschedulable() { Err(Rejection::unresolvable("node(s) were unschedulable")) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use serde_json::json;

    #[test]
    fn cordoned_nodes_take_only_the_tolerant() {
        let snapshot = snapshot(vec![node("n1", json!({"spec": {"unschedulable": true}}))], &[]);
        assert!(outcome(&pod("a", json!({})), &snapshot).starts_with("0/1 nodes are available: 1 node(s) were unschedulable."));
        let tolerant = json!({"tolerations": [{"key": "node.kubernetes.io/unschedulable", "operator": "Exists", "effect": "NoSchedule"}]});
        assert_eq!(outcome(&pod("a", tolerant), &snapshot), "n1");
    }
}
