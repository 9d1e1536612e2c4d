//! NodeRestriction: a node changes only itself and its own pods.
use crate::plugins::is_mirror_pod;
use crate::request::items;
use crate::{AdmissionRequest, Operation, Plugin};
use api_auth::{BALANCES, MASTERS};
use api_meta::{GroupResource, Status};
use api_resource::Lookup;
use async_trait::async_trait;
use serde_json::Value;
use std::collections::BTreeSet;

/// Labels of the kubernetes.io and k8s.io domains that a node may set on itself.
const OWN_LABELS: [&str; 14] = [
    "kubernetes.io/hostname",
    "kubernetes.io/arch",
    "kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.kubernetes.io/region",
    "failure-domain.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "node.kubernetes.io/windows-build",
];

pub struct NodeRestriction;

#[async_trait]
impl Plugin for NodeRestriction {
    fn name(&self) -> &'static str {
        "NodeRestriction"
    }

    async fn validate(&self, request: &mut AdmissionRequest<'_>, lookup: &dyn Lookup) -> Result<(), Status> {
        // The server's own node is a part of the server.
        let Some(node) = request.user.node().filter(|_| !request.user.in_group(MASTERS)).map(str::to_owned) else { return Ok(()) };
        let refusal = match (request.group, request.resource, request.subresource) {
            ("", "pods", "") => pod(request, &node, lookup).await?,
            ("", "pods", "status") => pod_status(request, &node),
            ("", "pods", "eviction") => eviction(request, &node, lookup).await?,
            ("", "nodes", "" | "status") => own_node(request, &node),
            ("", "serviceaccounts", "token") if request.operation == Operation::Create => token(request, &node, lookup).await?,
            ("coordination.k8s.io", "leases", "") => {
                (request.name_or_object() != node).then(|| format!("can only access node lease with the same name as the requesting node {node:?}"))
            }
            ("storage.k8s.io", "csinodes", "") => {
                (request.name_or_object() != node).then(|| format!("can only access CSINode with the same name as the requesting node {node:?}"))
            }
            ("resource.k8s.io", "resourceslices", "") => resource_slice(request, &node, lookup).await?,
            _ => None,
        };
        match refusal {
            Some(why) => Err(request.forbidden(why)),
            None => Ok(()),
        }
    }
}

impl AdmissionRequest<'_> {
    fn name_or_object(&self) -> &str {
        if self.name.is_empty() { self.object()["metadata"]["name"].as_str().unwrap_or_default() } else { self.name }
    }
}

/// A node publishes its own devices alone.
async fn resource_slice(request: &AdmissionRequest<'_>, node: &str, lookup: &dyn Lookup) -> Result<Option<String>, Status> {
    if request.operation == Operation::Create {
        let own = node_of(request.object()) == node;
        return Ok((!own).then(|| "can only create ResourceSlice with the same NodeName as the requesting node".into()));
    }
    let before = match request.old {
        Some(old) => Some(old.clone()),
        None => lookup.get(request.cluster, &GroupResource::new("resource.k8s.io", "resourceslices"), "", request.name).await?.map(|slice| slice.to_value()),
    };
    let other = before.is_some_and(|slice| node_of(&slice) != node);
    Ok(other.then(|| format!("can only {} ResourceSlice with the same NodeName as the requesting node", request.operation.as_str().to_lowercase())))
}

fn node_of(pod: &Value) -> &str {
    pod["spec"]["nodeName"].as_str().unwrap_or_default()
}

async fn find_pod(request: &AdmissionRequest<'_>, name: &str, lookup: &dyn Lookup) -> Result<Option<Value>, Status> {
    let pod = lookup.get(request.cluster, &GroupResource::new("", "pods"), request.namespace, name).await?;
    Ok(pod.map(|pod| pod.to_value()))
}

async fn pod(request: &AdmissionRequest<'_>, node: &str, lookup: &dyn Lookup) -> Result<Option<String>, Status> {
    match request.operation {
        Operation::Create => Ok(new_pod(request.object(), node)),
        Operation::Delete => {
            let found = match request.old {
                Some(old) => Some(old.clone()),
                None => find_pod(request, request.name, lookup).await?,
            };
            let other = found.is_some_and(|pod| node_of(&pod) != node);
            Ok(other.then(|| format!("node {node:?} can only delete pods with spec.nodeName set to itself")))
        }
        _ => Ok(Some(format!("unexpected operation {:?}, node {node:?} can only create and delete mirror pods", request.operation.as_str()))),
    }
}

/// A node makes only mirrors of pods it runs of itself, and those may lean on nothing in the API.
fn new_pod(pod: &Value, node: &str) -> Option<String> {
    if !is_mirror_pod(pod) {
        return Some(format!("pod does not have \"kubernetes.io/config.mirror\" annotation, node {node:?} can only create mirror pods"));
    }
    if node_of(pod) != node {
        return Some(format!("node {node:?} can only create pods with spec.nodeName set to itself"));
    }
    let owners = items(&pod["metadata"]["ownerReferences"]);
    if owners.iter().any(|owner| owner["kind"] != "Node" || owner["name"] != node) || owners.len() > 1 {
        return Some(format!("node {node:?} can only create pods with an owner reference set to itself"));
    }
    if pod["spec"]["serviceAccountName"].as_str().is_some_and(|name| !name.is_empty()) {
        return Some(format!("node {node:?} can not create pods that reference a service account"));
    }
    let volumes = items(&pod["spec"]["volumes"]);
    for (source, what) in [("secret", "secrets"), ("configMap", "configmaps"), ("persistentVolumeClaim", "persistentvolumeclaims")] {
        if volumes.iter().any(|volume| volume[source].is_object()) {
            return Some(format!("node {node:?} can not create pods that reference {what}"));
        }
    }
    None
}

fn pod_status(request: &AdmissionRequest<'_>, node: &str) -> Option<String> {
    if request.operation != Operation::Update {
        return Some(format!("unexpected operation {:?}", request.operation.as_str()));
    }
    if node_of(request.old()) != node {
        return Some(format!("node {node:?} can only update pod status for pods with spec.nodeName set to itself"));
    }
    (request.object()["metadata"]["labels"] != request.old()["metadata"]["labels"]).then(|| format!("node {node:?} cannot update labels through pod status"))
}

async fn eviction(request: &AdmissionRequest<'_>, node: &str, lookup: &dyn Lookup) -> Result<Option<String>, Status> {
    let pod = find_pod(request, request.name_or_object(), lookup).await?;
    let other = pod.is_some_and(|pod| node_of(&pod) != node);
    Ok(other.then(|| format!("node {node:?} can only evict pods with spec.nodeName set to itself")))
}

/// Tokens are for pods of the node that asks, bound to them.
async fn token(request: &AdmissionRequest<'_>, node: &str, lookup: &dyn Lookup) -> Result<Option<String>, Status> {
    let bound = &request.object()["spec"]["boundObjectRef"];
    if bound["kind"] != "Pod" || bound["apiVersion"] != "v1" {
        return Ok(Some("node requested token not bound to a pod".into()));
    }
    let (name, uid) = (bound["name"].as_str().unwrap_or_default(), bound["uid"].as_str().unwrap_or_default());
    if uid.is_empty() {
        return Ok(Some("node requested token with a pod binding without a uid".into()));
    }
    let Some(pod) = find_pod(request, name, lookup).await? else {
        return Err(Status::not_found("", "pods", name));
    };
    Ok(if pod["metadata"]["uid"] != uid {
        let found = pod["metadata"]["uid"].as_str().unwrap_or_default();
        Some(format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated ({found})"
        ))
    } else if node_of(&pod) != node {
        Some("node requested token bound to a pod scheduled on a different node".into())
    } else {
        None
    })
}

fn own_node(request: &AdmissionRequest<'_>, node: &str) -> Option<String> {
    let name = request.name_or_object();
    if name != node {
        return Some(format!("node {node:?} is not allowed to modify node {name:?}"));
    }
    let (new, old) = (request.object(), request.old());
    match request.operation {
        Operation::Create => {
            if new["spec"]["configSource"].is_object() {
                return Some(format!("node {node:?} is not allowed to create pods with a non-nil configSource"));
            }
            let forbidden: Vec<&str> = label_keys(new).into_iter().filter(|key| is_forbidden_label(key)).collect();
            (!forbidden.is_empty()).then(|| format!("node {node:?} is not allowed to set the following labels: {}", forbidden.join(", ")))
        }
        Operation::Update => {
            if new["spec"]["taints"] != old["spec"]["taints"] {
                return Some(format!("node {node:?} is not allowed to modify taints"));
            }
            let changed: BTreeSet<&str> = label_keys(new).into_iter().chain(label_keys(old)).collect();
            let value = |of: &Value, key: &str| of["metadata"]["labels"].get(key).cloned();
            let forbidden: Vec<&str> = changed.into_iter().filter(|key| is_forbidden_label(key) && value(new, key) != value(old, key)).collect();
            if !forbidden.is_empty() {
                return Some(format!("is not allowed to modify labels: {}", forbidden.join(", ")));
            }
            let owners = |of: &Value| of["metadata"]["ownerReferences"].clone();
            (owners(new) != owners(old) && request.subresource.is_empty()).then(|| format!("node {node:?} is not allowed to modify ownerReferences"))
        }
        _ => None,
    }
}

fn label_keys(object: &Value) -> Vec<&str> {
    object["metadata"]["labels"].as_object().into_iter().flatten().map(|(key, _)| key.as_str()).collect()
}

fn is_forbidden_label(key: &str) -> bool {
    let domain = key.split_once('/').map_or("", |(domain, _)| domain);
    let within = |parent: &str| domain == parent || domain.strip_suffix(parent).is_some_and(|rest| rest.ends_with('.'));
    // Who balances is shown the certificates of Ingresses: that is for the operator to say.
    if within("node-restriction.kubernetes.io") || key == BALANCES {
        return true;
    }
    let own = OWN_LABELS.contains(&key) || within("kubelet.kubernetes.io") || within("node.kubernetes.io");
    (within("kubernetes.io") || within("k8s.io")) && !own
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{World, ask};
    use api_auth::User;
    use serde_json::json;

    fn node() -> User {
        User::authenticated("system:node:n", ["system:nodes".to_owned()])
    }

    #[tokio::test]
    async fn a_node_changes_only_itself_and_its_pods() {
        let pod = |on: &str| json!({"metadata": {"name": "p", "namespace": "a", "uid": "u"}, "spec": {"nodeName": on}});
        let world = World::of([("pods", pod("n"))]);
        let mut mirror = pod("n");
        mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
        let labels = |key: &str| json!({"metadata": {"name": "n", "labels": {key: "x"}}});
        let token = |uid: &str| json!({"spec": {"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": uid}}});
        for (what, request, may) in [
            ("own status", ask("pods/status").named("a", "p").updates(pod("n"), pod("n")), true),
            ("other status", ask("pods/status").named("a", "p").updates(pod("m"), pod("m")), false),
            ("own pod deleted", ask("pods").named("a", "p").deletes(pod("n")), true),
            ("other pod deleted", ask("pods").named("a", "p").deletes(pod("m")), false),
            ("plain pod made", ask("pods").named("a", "p").creates(pod("n")), false),
            ("mirror pod made", ask("pods").named("a", "p").creates(mirror), true),
            ("itself", ask("nodes").named("", "n").updates(labels("a"), labels("b")), true),
            ("another", ask("nodes").named("", "m").updates(json!({}), json!({})), false),
            ("taints", ask("nodes").named("", "n").updates(json!({}), json!({"spec": {"taints": [{"key": "a"}]}})), false),
            ("balancing label", ask("nodes").named("", "n").creates(labels(BALANCES)), false),
            ("role label", ask("nodes").named("", "n").creates(labels("node-role.kubernetes.io/x")), false),
            ("restricted label", ask("nodes").named("", "n").creates(labels("node-restriction.kubernetes.io/x")), false),
            ("zone label", ask("nodes").named("", "n").creates(labels("topology.kubernetes.io/zone")), true),
            ("own label", ask("nodes").named("", "n").creates(labels("node.kubernetes.io/x")), true),
            ("own lease", ask("leases.coordination.k8s.io").named("kube-node-lease", "n").updates(json!({}), json!({})), true),
            ("other lease", ask("leases.coordination.k8s.io").named("kube-node-lease", "m").updates(json!({}), json!({})), false),
            ("token of its pod", ask("serviceaccounts/token").named("a", "sa").creates(token("u")), true),
            ("token of a pod gone", ask("serviceaccounts/token").named("a", "sa").creates(token("v")), false),
            ("unbound token", ask("serviceaccounts/token").named("a", "sa").creates(json!({"spec": {}})), false),
        ] {
            let answer = request.by(node()).validated(&NodeRestriction, &world).await;
            assert_eq!(answer.is_ok(), may, "{what}: {answer:?}");
        }
        ask("nodes").named("", "m").updates(json!({}), json!({})).validated(&NodeRestriction, &world).await.unwrap();
    }
}
