//! VirtualCluster: what a virtual cluster may ask of the host's nodes, whatever its own administrators allow.
use super::pod_security::{Level, Standard, Version, checks};
use crate::{AdmissionRequest, Operation, Plugin};
use api_meta::{ClusterSettings, GroupResource, PodSecurityLevel, Status};
use api_resource::Lookup;
use async_trait::async_trait;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Does nothing in the host cluster. It can't be turned off: it is the wall between tenants.
pub struct VirtualCluster;

/// A label of the nodes that belong to one virtual cluster alone, with its name. No node of the host has it.
const OWN_NODE: &str = "k8shost.io/virtual-cluster";

#[async_trait]
impl Plugin for VirtualCluster {
    fn name(&self) -> &'static str {
        "VirtualCluster"
    }

    async fn mutate(&self, request: &mut AdmissionRequest<'_>, _: &dyn Lookup) -> Result<(), Status> {
        let Some(settings) = request.host.cluster_settings(request.cluster) else { return Ok(()) };
        let of_claim = request.is("", "persistentvolumeclaims") && matches!(request.operation, Operation::Create | Operation::Update);
        if of_claim && request.object().is_object() {
            let classes = settings.host_classes();
            mark(request.metadata_mut(), classes);
        }
        let new_pod = request.is("", "pods") && request.operation == Operation::Create && request.object().is_object();
        // What a node runs of its own accord is only told of.
        if settings.paused && new_pod && request.object()["spec"]["nodeName"].as_str().is_none_or(str::is_empty) {
            hold(request.spec_mut());
        }
        let mut wanted = settings.node_selector.clone();
        if settings.own_nodes {
            wanted.insert(OWN_NODE.into(), request.cluster.as_str().into());
        }
        if request.is("", "pods") && request.operation == Operation::Create && !wanted.is_empty() {
            let selector = selected(&request.object()["spec"]["nodeSelector"], &wanted).map_err(|why| request.forbidden(why))?;
            request.spec_mut().insert("nodeSelector".into(), selector);
        }
        Ok(())
    }

    async fn validate(&self, request: &mut AdmissionRequest<'_>, lookup: &dyn Lookup) -> Result<(), Status> {
        let Some(settings) = request.host.cluster_settings(request.cluster) else { return Ok(()) };
        // Controllers go on, so that its objects tell the truth; but nothing is to begin.
        let begins = request.is_part("", "pods", "binding") || request.is("batch", "jobs");
        if settings.paused && request.operation == Operation::Create && begins {
            return Err(request.forbidden("the virtual cluster is paused"));
        }
        // Who chooses a node past the scheduler chooses among those the cluster sees.
        if let Some(node) = chosen_node(request)
            && lookup.get(request.cluster, &GroupResource::new("", "nodes"), "", node).await?.is_none()
        {
            return Err(request.forbidden(format_args!("node {node:?} is none of the virtual cluster's")));
        }
        if request.is("", "persistentvolumes")
            && matches!(request.operation, Operation::Create | Operation::Update)
            && let Some(why) = foreign(request.cluster.as_str(), request.object())
        {
            return Err(request.forbidden(why));
        }
        let level = match settings.pod_security {
            PodSecurityLevel::Privileged => return Ok(()),
            PodSecurityLevel::Baseline => Level::Baseline,
            PodSecurityLevel::Restricted => Level::Restricted,
        };
        if !matches!(request.operation, Operation::Create | Operation::Update) {
            return Ok(());
        }
        let why = match (request.group, request.resource, request.subresource) {
            ("", "pods", "" | "ephemeralcontainers" | "resize") => pod(request.object(), level),
            ("", "persistentvolumes", "") => volume(&request.object()["spec"]),
            _ => None,
        };
        why.map_or(Ok(()), |why| Err(request.forbidden(why)))
    }
}

/// Keeps a new pod of a paused cluster from being scheduled.
fn hold(spec: &mut Map<String, Value>) {
    let gate = json!({ "name": ClusterSettings::PAUSED_GATE });
    match spec.get_mut("schedulingGates").and_then(Value::as_array_mut) {
        Some(gates) if gates.contains(&gate) => {}
        Some(gates) => gates.push(gate),
        None => drop(spec.insert("schedulingGates".into(), json!([gate]))),
    }
}

/// Says on a claim which of the host's classes may serve it; nobody else can say so.
fn mark(metadata: &mut Map<String, Value>, classes: Option<String>) {
    let key = ClusterSettings::HOST_CLASSES;
    match (classes, metadata.get_mut("annotations").and_then(Value::as_object_mut)) {
        (Some(classes), Some(annotations)) => drop(annotations.insert(key.into(), classes.into())),
        (Some(classes), None) => drop(metadata.insert("annotations".into(), json!({ key: classes }))),
        (None, Some(annotations)) => drop(annotations.remove(key)),
        (None, None) => {}
    }
}

/// Why a volume of a driver may not be had: its handle would be the key to somebody else's data.
///
/// What the host makes for a cluster is called after the cluster and the volume, so that anybody can see whose it is.
fn foreign(cluster: &str, volume: &Value) -> Option<String> {
    let handle = volume["spec"].get("csi").filter(|csi| !csi.is_null())?["volumeHandle"].as_str().unwrap_or_default();
    let own = format!("{cluster}_{}", volume["metadata"]["name"].as_str().unwrap_or_default());
    (handle != own).then(|| format!("the volume handle {handle:?} is none that the host cluster has made for this virtual cluster's volume"))
}

/// The node that a new pod or a binding names.
fn chosen_node<'a>(request: &'a AdmissionRequest<'_>) -> Option<&'a str> {
    let node = match (request.operation, request.subresource) {
        (Operation::Create, "") if request.is("", "pods") => &request.object()["spec"]["nodeName"],
        (Operation::Create, "binding") if request.is_part("", "pods", "binding") => &request.object()["target"]["name"],
        _ => return None,
    };
    node.as_str().filter(|node| !node.is_empty())
}

/// A pod's node selector with the cluster's, which it must not contradict.
fn selected(pods: &Value, clusters: &BTreeMap<String, String>) -> Result<Value, String> {
    let mut selector = pods.as_object().cloned().unwrap_or_default();
    for (key, value) in clusters {
        match selector.get(key) {
            Some(own) if own != value => return Err(format!("pod node label selector conflicts with the virtual cluster's: {key}={value}")),
            _ => selector.insert(key.clone(), value.clone().into()),
        };
    }
    Ok(selector.into())
}

/// Why the pod may not run on the host's nodes.
fn pod(pod: &Value, level: Level) -> Option<String> {
    let standard = Standard { level, version: Version::LATEST };
    let violations = checks::violations(standard, &pod["metadata"], &pod["spec"]);
    let why = || format!("violates PodSecurity {:?} of the virtual cluster: {}", standard.to_string(), checks::details(&violations));
    (!violations.is_empty()).then(why)
}

/// Why the volume may not be had: a claim on it would reach into the node, which no pod may do itself.
fn volume(spec: &Value) -> Option<String> {
    let source = ["hostPath", "local"].into_iter().find(|source| spec.get(source).is_some_and(|value| !value.is_null()))?;
    Some(format!("{source} volumes reach into the host cluster's nodes, which is not allowed in a virtual cluster"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clusters_node_selector_joins_the_pods_and_wins() {
        let clusters = BTreeMap::from([("pool".to_owned(), "a".to_owned())]);
        assert_eq!(selected(&Value::Null, &clusters).unwrap(), json!({"pool": "a"}));
        assert_eq!(selected(&json!({"pool": "a", "disk": "ssd"}), &clusters).unwrap(), json!({"pool": "a", "disk": "ssd"}));
        assert!(selected(&json!({"pool": "b"}), &clusters).unwrap_err().contains("pool=a"));
    }

    #[test]
    fn a_volume_of_a_driver_is_its_clusters_own_or_refused() {
        let volume = |handle: &str| json!({"metadata": {"name": "pvc-1"}, "spec": {"csi": {"driver": "d", "volumeHandle": handle}}});
        assert_eq!(foreign("a.team", &volume("a.team_pvc-1")), None);
        for handle in ["b.team_pvc-1", "a.team_pvc-2", "vol-0123", ""] {
            assert!(foreign("a.team", &volume(handle)).is_some(), "{handle}");
        }
        assert_eq!(foreign("a.team", &json!({"metadata": {"name": "x"}, "spec": {"nfs": {}}})), None);
    }

    #[test]
    fn only_the_server_says_which_classes_serve_a_claim() {
        let mut forged = json!({"annotations": {ClusterSettings::HOST_CLASSES: "", "own": "x"}}).as_object().unwrap().clone();
        mark(&mut forged, None);
        assert_eq!(forged["annotations"], json!({"own": "x"}));
        let mut plain = Map::new();
        mark(&mut plain, Some("tier=a".into()));
        assert_eq!(plain["annotations"], json!({ClusterSettings::HOST_CLASSES: "tier=a"}));
    }

    #[test]
    fn nothing_reaches_into_the_host() {
        let with = |spec: Value| json!({"metadata": {"name": "p"}, "spec": spec});
        let container = json!([{"name": "c", "image": "i"}]);
        assert_eq!(pod(&with(json!({"containers": container})), Level::Baseline), None);
        for spec in [
            json!({"containers": container, "hostNetwork": true}),
            json!({"containers": container, "hostPID": true}),
            json!({"containers": container, "volumes": [{"name": "v", "hostPath": {"path": "/"}}]}),
            json!({"containers": [{"name": "c", "image": "i", "securityContext": {"privileged": true}}]}),
            json!({"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 1, "hostPort": 1}]}]}),
        ] {
            assert!(pod(&with(spec.clone()), Level::Baseline).is_some_and(|why| why.starts_with("violates PodSecurity \"baseline:latest\"")), "{spec}");
        }
        assert!(pod(&with(json!({"containers": container})), Level::Restricted).is_some());
        assert!(volume(&json!({"hostPath": {"path": "/"}})).is_some() && volume(&json!({"local": {"path": "/"}})).is_some());
        assert_eq!(volume(&json!({"csi": {"driver": "stor.plasmacloud.io"}, "hostPath": null})), None);
    }
}
