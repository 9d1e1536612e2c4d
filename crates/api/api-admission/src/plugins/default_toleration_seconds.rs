//! DefaultTolerationSeconds: pods stay five minutes on a node that stops answering.
use crate::request::{entry_list, items};
use crate::{AdmissionRequest, Operation, Plugin};
use api_meta::Status;
use api_resource::Lookup;
use async_trait::async_trait;
use serde_json::{Value, json};

const SECONDS: i64 = 300;
const TAINTS: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

pub struct DefaultTolerationSeconds;

#[async_trait]
impl Plugin for DefaultTolerationSeconds {
    fn name(&self) -> &'static str {
        "DefaultTolerationSeconds"
    }

    async fn mutate(&self, request: &mut AdmissionRequest<'_>, _lookup: &dyn Lookup) -> Result<(), Status> {
        if !request.is("", "pods") || !matches!(request.operation, Operation::Create | Operation::Update) {
            return Ok(());
        }
        let spec = request.spec_mut();
        for taint in TAINTS {
            if !items(spec.get("tolerations").unwrap_or(&Value::Null)).iter().any(|toleration| tolerates(toleration, taint)) {
                let toleration = json!({"key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": SECONDS});
                entry_list(spec, "tolerations").push(toleration);
            }
        }
        Ok(())
    }
}

fn tolerates(toleration: &Value, taint: &str) -> bool {
    let is = |field: &str, value: &str| toleration[field].as_str().is_none_or(|have| have.is_empty() || have == value);
    is("key", taint) && is("effect", "NoExecute")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{World, ask};

    #[tokio::test]
    async fn a_toleration_of_ones_own_is_kept() {
        for (given, added) in [
            (json!([]), vec!["not-ready", "unreachable"]),
            (json!([{"key": TAINTS[0], "operator": "Exists", "effect": "NoExecute"}]), vec!["unreachable"]),
            (json!([{"key": TAINTS[0], "operator": "Exists", "effect": "NoSchedule"}]), vec!["not-ready", "unreachable"]),
            (json!([{"operator": "Exists"}]), vec![]),
        ] {
            let pod = json!({"spec": {"tolerations": given}});
            let answer = ask("pods").named("a", "p").creates(pod).mutated(&DefaultTolerationSeconds, &World::default()).await.unwrap();
            let after = items(&answer.object["spec"]["tolerations"]).iter().skip(items(&given).len());
            let keys: Vec<&str> = after.map(|t| t["key"].as_str().unwrap().strip_prefix("node.kubernetes.io/").unwrap()).collect();
            assert_eq!(keys, added, "{given}");
        }
    }
}
