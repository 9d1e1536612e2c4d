//! PodTopologyLabels: a pod that is bound gets the zone and the region of its node as labels.
use crate::{AdmissionRequest, Operation, Plugin};
use api_meta::{GroupResource, Status};
use api_resource::Lookup;
use async_trait::async_trait;

const LABELS: [&str; 2] = ["topology.kubernetes.io/region", "topology.kubernetes.io/zone"];

pub struct PodTopologyLabels;

#[async_trait]
impl Plugin for PodTopologyLabels {
    fn name(&self) -> &'static str {
        "PodTopologyLabels"
    }

    async fn mutate(&self, request: &mut AdmissionRequest<'_>, lookup: &dyn Lookup) -> Result<(), Status> {
        if !request.is_part("", "pods", "binding") || request.operation != Operation::Create {
            return Ok(());
        }
        let target = &request.object()["target"];
        let node = target["name"].as_str().unwrap_or_default().to_owned();
        if node.is_empty() || !matches!(target["kind"].as_str(), None | Some("" | "Node")) {
            return Ok(());
        }
        // A binding to a node that isn't there is somebody else's to refuse.
        let Some(node) = lookup.get(request.cluster, &GroupResource::new("", "nodes"), "", &node).await? else { return Ok(()) };
        let node = node.to_value();
        for label in LABELS {
            if let Some(value) = node["metadata"]["labels"].get(label) {
                let labels = request.metadata_mut().entry("labels").or_insert_with(|| serde_json::json!({}));
                labels[label] = value.clone();
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{World, ask};
    use serde_json::json;

    #[tokio::test]
    async fn a_binding_brings_the_nodes_place() {
        let world = World::of([("nodes", json!({"metadata": {"name": "n", "labels": {LABELS[1]: "z", "other": "x"}}}))]);
        for (node, want) in [("n", json!({LABELS[1]: "z"})), ("elsewhere", json!(null))] {
            let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": node}});
            let answer = ask("pods/binding").named("a", "p").creates(binding).mutated(&PodTopologyLabels, &world).await.unwrap();
            assert_eq!(answer.object["metadata"]["labels"], want);
        }
    }
}
