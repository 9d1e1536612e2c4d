//! TaintNodesByCondition: a new node takes no pods before it is known to be ready.
use crate::request::{entry_list, items};
use crate::{AdmissionRequest, Operation, Plugin};
use api_meta::Status;
use api_resource::Lookup;
use async_trait::async_trait;
use serde_json::{Value, json};

const NOT_READY: &str = "node.kubernetes.io/not-ready";

pub struct TaintNodesByCondition;

#[async_trait]
impl Plugin for TaintNodesByCondition {
    fn name(&self) -> &'static str {
        "TaintNodesByCondition"
    }

    async fn mutate(&self, request: &mut AdmissionRequest<'_>, _lookup: &dyn Lookup) -> Result<(), Status> {
        if !request.is("", "nodes") || request.operation != Operation::Create {
            return Ok(());
        }
        let spec = request.spec_mut();
        let taints = items(spec.get("taints").unwrap_or(&Value::Null));
        if !taints.iter().any(|taint| taint["key"] == NOT_READY && taint["effect"] == "NoSchedule") {
            entry_list(spec, "taints").push(json!({"key": NOT_READY, "effect": "NoSchedule"}));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{World, ask};

    #[tokio::test]
    async fn a_new_node_is_tainted_once() {
        let taint = json!({"key": NOT_READY, "effect": "NoSchedule"});
        for given in [json!({}), json!({"spec": {"taints": [taint]}})] {
            let answer = ask("nodes").named("", "n").creates(given).mutated(&TaintNodesByCondition, &World::default()).await.unwrap();
            assert_eq!(answer.object["spec"]["taints"], json!([taint]));
        }
    }
}
