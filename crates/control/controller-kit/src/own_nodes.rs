//! Own nodes: virtual clusters whose pods run on machines of their own, never on the host cluster's nodes.
use crate::ObjectKey;
use api_meta::ClusterName;
use k8s_openapi::api::core::v1::{Node, Pod};
use std::sync::Arc;

/// A label that admission makes every pod of such a cluster select, with the cluster's name.
pub const OWN_NODE: &str = "k8shost.io/virtual-cluster";

/// Whether the pods of a cluster, as this one, run on the cluster's own nodes.
pub fn runs_on_own(cluster: &ClusterName, pod: &Pod) -> bool {
    let selected = pod.spec.as_ref().and_then(|spec| spec.node_selector.as_ref()?.get(OWN_NODE));
    !cluster.is_root() && selected.is_some_and(|name| name == cluster.as_str())
}

/// The node that a pod of a cluster is bound to: one of the host's, unless the cluster has its own.
pub fn node_of(cluster: &ClusterName, pod: &Pod) -> ObjectKey {
    let name = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default();
    let root = ClusterName::root();
    ObjectKey::new(if runs_on_own(cluster, pod) { cluster } else { &root }, "", name)
}

/// What a node of a virtual cluster is called among those of all clusters. No node's name has a slash.
pub fn qualified(cluster: &ClusterName, node: &str) -> String {
    if cluster.is_root() { node.to_owned() } else { format!("{cluster}/{node}") }
}

/// The cluster whose own a qualified name is of, and the node's name in it; `None` for the host's nodes.
pub fn owner(qualified: &str) -> Option<(&str, &str)> {
    qualified.split_once('/')
}

/// A node of a virtual cluster as it stands among those of all clusters: with its qualified name, and its cluster's label.
pub fn among_all(cluster: &ClusterName, node: &Arc<Node>) -> Arc<Node> {
    if cluster.is_root() {
        return node.clone();
    }
    let mut node = (**node).clone();
    node.metadata.name = node.metadata.name.map(|name| qualified(cluster, &name));
    node.metadata.labels.get_or_insert_default().insert(OWN_NODE.into(), cluster.to_string());
    Arc::new(node)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_is_on_its_clusters_node_only_where_it_selects_that() {
        let pod = |selector| -> Pod {
            serde_json::from_value(json!({"metadata": {}, "spec": {"nodeName": "n", "containers": [], "nodeSelector": selector}})).unwrap()
        };
        let cluster = ClusterName::hosted("team", "edge").unwrap();
        let selecting = |name: &str| pod(json!({OWN_NODE: name}));
        assert_eq!(node_of(&cluster, &selecting(cluster.as_str())).cluster, cluster);
        assert!(node_of(&cluster, &selecting("other.team")).cluster.is_root());
        assert!(node_of(&cluster, &pod(json!({}))).cluster.is_root());
        assert!(node_of(&ClusterName::root(), &selecting("root")).cluster.is_root());
        assert_eq!(owner(&qualified(&cluster, "n")), Some((cluster.as_str(), "n")));
        assert_eq!(owner("n"), None);
    }
}
