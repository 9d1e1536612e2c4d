//! NodeMirrors: the host's nodes and storage classes as virtual clusters see them.
use super::Tenants;
use api_meta::{ClusterName, ClusterSettings, GroupResource, object};
use bytes::Bytes;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use store::Record;
use store_views::Mirrors;

/// Labels that say what a pod can count on, which a cluster sees of every node.
const PLAIN_LABELS: [&str; 6] = [
    "kubernetes.io/arch",
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];

pub struct NodeMirrors(pub Arc<Tenants>);

impl Mirrors for NodeMirrors {
    fn mirrors(&self, cluster: &ClusterName, resource: &GroupResource) -> bool {
        self.0.mirrors(cluster, resource)
    }

    fn view(&self, cluster: &ClusterName, record: &Record) -> Option<Bytes> {
        let tenant = self.0.get(cluster)?;
        let node: Value = serde_json::from_slice(&record.value).ok()?;
        let seen = if record.key.resource() == "nodes" { node_view(&node, &tenant.settings)? } else { class_view(&node, &tenant.settings)? };
        Some(object::stamp(&object::encode(&seen), record.mod_revision))
    }
}

/// A StorageClass as a cluster sees it: by name and promises, not by what the host tells its driver.
fn class_view(class: &Value, settings: &ClusterSettings) -> Option<Map<String, Value>> {
    let labels = &class["metadata"]["labels"];
    if !settings.storage_classes.as_ref()?.iter().all(|(key, value)| labels[key] == *value) {
        return None;
    }
    let mut seen = class.as_object()?.clone();
    seen.remove("parameters");
    let metadata = seen.get_mut("metadata")?.as_object_mut()?;
    metadata.retain(|key, _| matches!(key.as_str(), "name" | "uid" | "creationTimestamp" | "labels" | "annotations"));
    if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.retain(|key, _| key.ends_with("/is-default-class"));
    }
    Some(seen)
}

/// A node as a cluster sees it, without the annotations, images, volumes and managers that are the host's business;
/// `None` if the cluster's pods never run there.
fn node_view(node: &Value, settings: &ClusterSettings) -> Option<Map<String, Value>> {
    let labels = node["metadata"]["labels"].as_object();
    let has = |key: &str, value: &str| labels.and_then(|labels| labels.get(key)).is_some_and(|label| label == value);
    if !settings.node_selector.iter().all(|(key, value)| has(key, value)) {
        return None;
    }
    let whole = settings.mirror_host_nodes;
    let shown = |key: &str| whole || PLAIN_LABELS.contains(&key) || settings.node_selector.contains_key(key);
    let labels: Map<String, Value> = labels.into_iter().flatten().filter(|(key, _)| shown(key)).map(|(key, value)| (key.clone(), value.clone())).collect();
    let (metadata, status) = (&node["metadata"], &node["status"]);
    let kept = |from: &Value, fields: &[&str]| -> Map<String, Value> {
        fields.iter().filter_map(|field| Some(((*field).to_owned(), from.get(*field)?.clone()))).collect()
    };
    let mut seen_metadata = kept(metadata, &["name", "uid", "creationTimestamp"]);
    seen_metadata.insert("labels".into(), labels.into());
    let spec = kept(&node["spec"], if whole { &["taints", "unschedulable", "providerID"] } else { &["taints", "unschedulable"] });
    let mut seen_status = kept(status, &["capacity", "allocatable", "conditions", "nodeInfo", "runtimeHandlers", "features"]);
    let addresses = status["addresses"].as_array().into_iter().flatten().filter(|address| whole || address["type"] == "Hostname");
    seen_status.insert("addresses".into(), addresses.cloned().collect());
    if !whole && let Some(info) = seen_status.get_mut("nodeInfo").and_then(Value::as_object_mut) {
        for own in ["machineID", "systemUUID", "bootID"] {
            info.insert(own.into(), "".into());
        }
    }
    let node = json!({ "kind": "Node", "apiVersion": "v1", "metadata": seen_metadata, "spec": spec, "status": seen_status });
    node.as_object().cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> Value {
        json!({
            "kind": "Node", "apiVersion": "v1",
            "metadata": {
                "name": "n1", "uid": "u", "labels": {"kubernetes.io/os": "linux", "rack": "7", "pool": "a"}, "annotations": {"secret": "plan"},
                "managedFields": [{"manager": "kubelet"}], "creationTimestamp": "2026-01-01T00:00:00Z",
            },
            "spec": {"podCIDR": "10.244.0.0/24", "taints": [{"key": "k", "effect": "NoSchedule"}]},
            "status": {
                "addresses": [{"type": "InternalIP", "address": "192.0.2.7"}, {"type": "Hostname", "address": "n1"}],
                "capacity": {"cpu": "2"}, "nodeInfo": {"machineID": "m", "kernelVersion": "6"}, "images": [{"names": ["of-another-tenant"]}],
                "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
            },
        })
    }

    #[test]
    fn a_mirrored_node_tells_nothing_of_the_host_or_of_other_tenants() {
        let seen = Value::Object(node_view(&node(), &ClusterSettings::default()).unwrap());
        let text = seen.to_string();
        for hidden in ["secret", "rack", "192.0.2.7", "10.244", "of-another-tenant", "kubelet", "\"m\""] {
            assert!(!text.contains(hidden), "{hidden} in {text}");
        }
        assert_eq!(seen["metadata"]["labels"], json!({"kubernetes.io/os": "linux"}));
        assert_eq!((&seen["status"]["capacity"]["cpu"], &seen["spec"]["taints"][0]["key"]), (&json!("2"), &json!("k")));
    }

    #[test]
    fn a_cluster_sees_the_nodes_it_selects_and_all_of_them_if_mirrored_whole() {
        let settings = |pool: &str, mirror_host_nodes| ClusterSettings {
            node_selector: [("pool".to_owned(), pool.to_owned())].into(),
            mirror_host_nodes,
            ..ClusterSettings::default()
        };
        assert!(node_view(&node(), &settings("b", true)).is_none());
        let seen = node_view(&node(), &settings("a", true)).unwrap();
        assert_eq!((&seen["metadata"]["labels"]["rack"], &seen["status"]["addresses"][0]["address"]), (&json!("7"), &json!("192.0.2.7")));
        assert!(seen["metadata"].get("annotations").is_none() && seen["status"].get("images").is_none());
    }

    #[test]
    fn a_cluster_sees_the_classes_it_may_use_and_nothing_of_their_parameters() {
        let class = json!({"kind": "StorageClass", "apiVersion": "storage.k8s.io/v1", "provisioner": "p", "parameters": {"secret": "plan"},
            "metadata": {"name": "c", "labels": {"tier": "a"}, "annotations": {"storageclass.kubernetes.io/is-default-class": "true", "own": "x"}}});
        let with = |tier: &str| ClusterSettings { storage_classes: Some([("tier".to_owned(), tier.to_owned())].into()), ..ClusterSettings::default() };
        assert!(class_view(&class, &ClusterSettings::default()).is_none() && class_view(&class, &with("b")).is_none());
        let seen = Value::Object(class_view(&class, &with("a")).unwrap());
        assert_eq!((&seen["provisioner"], seen.get("parameters"), seen["metadata"]["annotations"].as_object().unwrap().len()), (&json!("p"), None, 1));
    }
}
