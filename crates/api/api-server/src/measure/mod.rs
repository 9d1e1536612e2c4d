//! metrics.k8s.io: what pods and nodes use now, asked of the nodes when somebody wants to know.
mod samples;
mod usage;

pub(crate) use samples::Samples;

use crate::ApiServer;
use crate::body::Answer;
use crate::context::Context;
use crate::kinds::Kind;
use crate::stored::stored;
use api_meta::{GroupResource, Quantity, Status};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use store::Record;
use usage::{Measured, Usage};

pub(crate) const GROUP: &str = "metrics.k8s.io";

impl ApiServer {
    /// Get or list of PodMetrics or NodeMetrics.
    pub(crate) async fn measured(self: &Arc<Self>, context: &Context<'_>, kind: &Kind) -> Result<Answer, Status> {
        let names = kind.names();
        let core = self.kinds.find(context.cluster, "", "v1", &names.plural).ok_or_else(Status::no_such_resource)?;
        let one = context.route.verb == "get";
        let records = if one { vec![self.record(context, &core, &context.route.name).await?] } else { self.select(context, &core).await?.records };
        let objects = if core.namespaced() { self.pods_measured(context, &records).await? } else { self.nodes_measured(context, &records).await? };
        self.answer_computed(context, kind, objects)
    }

    /// Those of these pods that have been measured: not such as only just began.
    async fn pods_measured(self: &Arc<Self>, context: &Context<'_>, records: &[Arc<Record>]) -> Result<Vec<Value>, Status> {
        let pods: Vec<Value> = records.iter().map(|record| stored(record).object.to_value()).collect();
        let node_of = |pod: &Value| pod["spec"]["nodeName"].as_str().filter(|_| pod["status"]["phase"] == "Running").map(str::to_owned);
        let nodes: BTreeSet<String> = pods.iter().filter_map(node_of).collect();
        let measured = self.measure(context, nodes).await;
        let of = |pod: &Value| {
            let node = measured.get(&node_of(pod)?)?;
            let containers = node.pods.get(pod["metadata"]["uid"].as_str()?)?;
            let mut object = json!({"kind": "PodMetrics", "apiVersion": "metrics.k8s.io/v1beta1", "metadata": metadata(pod, context.now)});
            object["containers"] = containers.iter().map(|(name, usage)| json!({"name": name, "usage": resources(usage)})).collect();
            when(&mut object, node);
            Some(object)
        };
        Ok(pods.iter().filter_map(of).collect())
    }

    async fn nodes_measured(self: &Arc<Self>, context: &Context<'_>, records: &[Arc<Record>]) -> Result<Vec<Value>, Status> {
        let nodes: Vec<Value> = records.iter().map(|record| stored(record).object.to_value()).collect();
        let name = |node: &Value| node["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let measured = self.measure(context, nodes.iter().map(name).collect()).await;
        // Of a node that is shared, a virtual cluster is told what its own pods use: the rest is others'.
        let shared = self.tenants.mirrors(context.cluster, &GroupResource::new("", "nodes"));
        let of = |node: &Value| {
            let found = measured.get(&name(node))?;
            let usage = if shared { found.of_pods() } else { found.node? };
            let mut object = json!({"kind": "NodeMetrics", "apiVersion": "metrics.k8s.io/v1beta1", "metadata": metadata(node, context.now)});
            object["usage"] = resources(&usage);
            when(&mut object, found);
            Some(object)
        };
        Ok(nodes.iter().filter_map(of).collect())
    }

    /// What these nodes say of a cluster's pods. One that can't be asked is left out: the others' figures are right all the same.
    async fn measure(self: &Arc<Self>, context: &Context<'_>, nodes: BTreeSet<String>) -> HashMap<String, Arc<Measured>> {
        let asked = nodes.into_iter().map(|node| async move {
            let measured = self.samples.measure(self, context.cluster, &node).await;
            (node, measured)
        });
        let mut all = HashMap::new();
        for (node, measured) in futures::future::join_all(asked).await {
            match measured {
                Ok(measured) => {
                    all.insert(node, measured);
                }
                Err(status) => tracing::info!(node, why = status.message, "a node's use of resources could not be measured"),
            }
        }
        all
    }
}

fn metadata(object: &Value, now: Timestamp) -> Value {
    let mut metadata = json!({"name": object["metadata"]["name"], "creationTimestamp": clock::rfc3339_seconds(now)});
    for key in ["namespace", "labels"] {
        if let Some(value) = object["metadata"].get(key) {
            metadata[key] = value.clone();
        }
    }
    metadata
}

fn resources(usage: &Usage) -> Value {
    let cores = Quantity::parse(&format!("{}n", usage.nano_cores)).unwrap_or(Quantity::ZERO);
    let memory = Quantity::from_bytes(i64::try_from(usage.working_set).unwrap_or(i64::MAX));
    json!({"cpu": cores.to_string(), "memory": memory.to_string()})
}

fn when(object: &mut Value, measured: &Measured) {
    object["timestamp"] = clock::rfc3339_seconds(measured.end).into();
    // As Go writes a duration.
    object["window"] = format!("{}s", (measured.window.as_secs_f64() * 1000.0).round() / 1000.0).into();
}

/// What went wrong on the way to a node.
fn unreachable(why: impl std::fmt::Display) -> Status {
    Status::service_unavailable(format!("the node can't be asked: {why}"))
}
