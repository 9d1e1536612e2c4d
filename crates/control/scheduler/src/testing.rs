//! Worlds for tests: nodes, pods and what came of scheduling.
use crate::{FitError, Needs, PodInfo, Snapshot, schedule};
use api_meta::ClusterName;
use controller_kit::ObjectKey;
use k8s_openapi::api::core::v1::{Namespace, Node};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

pub fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => from.into_iter().for_each(|(k, v)| merge(into.entry(k).or_insert(Value::Null), v)),
        (into, from) => *into = from,
    }
}

/// A node with 4 CPUs, 8Gi and room for 10 pods, changed by `with`.
pub fn node(name: &str, with: Value) -> Arc<Node> {
    let mut value = json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "ephemeral-storage": "10Gi", "pods": "10"}}
    });
    merge(&mut value, with);
    Arc::new(serde_json::from_value(value).unwrap())
}

/// A namespace with these labels.
pub fn namespace(labels: BTreeMap<String, String>) -> Arc<Namespace> {
    Arc::new(Namespace { metadata: ObjectMeta { labels: Some(labels), ..Default::default() }, ..Default::default() })
}

/// A pod in namespace `n` of the root cluster with label `app` as its name's letters.
pub fn pod(name: &str, spec: Value) -> Arc<PodInfo> {
    pod_in(&ClusterName::root(), name, spec)
}

pub fn pod_in(cluster: &ClusterName, name: &str, spec: Value) -> Arc<PodInfo> {
    let mut value = json!({"containers": [{"name": "c", "image": "i"}]});
    merge(&mut value, spec);
    let app = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let pod = json!({"metadata": {"name": name, "namespace": "n", "uid": format!("{cluster}-{name}"), "labels": {"app": app}}, "spec": value});
    Arc::new(PodInfo::new(ObjectKey::new(cluster, "n", name), Arc::new(serde_json::from_value(pod).unwrap())))
}

/// Nodes, and pods placed on them.
pub fn snapshot(nodes: Vec<Arc<Node>>, pods: &[(Arc<PodInfo>, &str)]) -> Snapshot {
    let mut snapshot = Snapshot::default();
    nodes.into_iter().for_each(|node| snapshot.set_node(node));
    pods.iter().for_each(|(pod, node)| snapshot.place(pod.clone(), node));
    snapshot
}

pub fn attempt(pod: &PodInfo, snapshot: &Snapshot) -> Result<String, FitError> {
    schedule(pod, &Needs::default(), snapshot, 0, 0, &mut |_| 0).map(|placement| snapshot.nodes()[placement.node].name.to_string())
}

/// The node chosen, or the message.
pub fn outcome(pod: &PodInfo, snapshot: &Snapshot) -> String {
    attempt(pod, snapshot).unwrap_or_else(|error| error.to_string())
}

pub fn requests(cpu: &str, memory: &str) -> Value {
    json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu, "memory": memory}}}]})
}
