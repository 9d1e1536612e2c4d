//! What a node may read of pods: those bound to it (upstream's AuthorizeNodeWithSelectors, KEP-4601).
use crate::ApiServer;
use crate::query::Query;
use crate::stored::stored;
use api_auth::{Attributes, MASTERS, forbidden};
use api_meta::{GroupResource, Status};
use serde_json::{Map, Value, json};
use store::Key;

/// Asks for pods as networks need to know them: whose they are and where, not what they run.
const NETWORK_VIEW: (&str, &str) = ("view", "network");

pub(crate) fn is_network_view(query: &Query) -> bool {
    query.value(NETWORK_VIEW.0) == Some(NETWORK_VIEW.1)
}

/// A pod's names, labels, node, ports, phase and addresses.
pub(crate) fn network_view(pod: &[u8]) -> Vec<u8> {
    let Ok(pod) = serde_json::from_slice::<Value>(pod) else { return b"{}".to_vec() };
    let kept = |from: &Value, fields: &[&str]| -> Map<String, Value> {
        fields.iter().filter_map(|field| Some(((*field).to_owned(), from.get(*field)?.clone()))).collect()
    };
    let containers = |field: &str| -> Vec<Value> {
        pod["spec"][field].as_array().into_iter().flatten().map(|container| kept(container, &["name", "ports", "restartPolicy"]).into()).collect()
    };
    let mut spec = kept(&pod["spec"], &["nodeName", "hostNetwork"]);
    spec.insert("containers".into(), containers("containers").into());
    spec.insert("initContainers".into(), containers("initContainers").into());
    let seen = json!({
        "kind": "Pod", "apiVersion": "v1",
        "metadata": kept(&pod["metadata"], &["name", "namespace", "uid", "resourceVersion", "labels", "creationTimestamp", "deletionTimestamp"]),
        "spec": spec,
        "status": kept(&pod["status"], &["phase", "podIP", "podIPs"]),
    });
    serde_json::to_vec(&seen).expect("a value encodes")
}

impl ApiServer {
    /// Refuses a node the pods of others, unless a role grants them. What the node authorizer allows by name alone is
    /// looked at here, where the selectors and the store are.
    pub(crate) async fn check_node_reads(&self, attributes: &Attributes<'_>, query: &Query) -> Result<(), Status> {
        let Some(node) = attributes.user.node() else { return Ok(()) };
        let reads_pods = attributes.group.is_empty() && attributes.resource == "pods" && attributes.subresource.is_empty();
        if !reads_pods || !matches!(attributes.verb, "get" | "list" | "watch") || attributes.user.in_group(MASTERS) {
            return Ok(());
        }
        let selects_own = attributes.verb != "get" && query.fields()?.exact("spec.nodeName").is_some_and(|name| name == node);
        // Whom policies are about, and nothing else of them.
        let for_network = attributes.verb == "watch" && is_network_view(query);
        if selects_own || for_network || self.is_bound_to(attributes, node).await || self.authorizer.rbac().authorize(attributes).is_allowed() {
            return Ok(());
        }
        let why = if attributes.name.is_empty() {
            "can only list/watch pods with spec.nodeName field selector".to_owned()
        } else {
            format!("no relationship found between node '{node}' and this object")
        };
        Err(forbidden(attributes, &why))
    }

    /// Refuses to look across clusters to all but nodes of the host, and for anything but a watch of what these need:
    /// which pods they shall run, where Services lead, and which clusters there are.
    pub(crate) fn check_across(&self, attributes: &Attributes<'_>) -> Result<(), Status> {
        let needed = matches!(
            (attributes.group, attributes.resource),
            ("", "pods" | "services" | "namespaces") | ("discovery.k8s.io", "endpointslices") | ("networking.k8s.io", "networkpolicies")
        );
        // Of the nodes that balance; the authorizer has told them apart.
        let balancing = attributes.group == "networking.k8s.io"
            && matches!(attributes.resource, "ingresses" | "ingressclasses")
            && attributes.user.node().is_some_and(|node| self.authorizer.nodes().balances(node));
        let whole = attributes.verb == "watch" && attributes.namespace.is_empty() && attributes.name.is_empty() && attributes.subresource.is_empty();
        if attributes.user.node().is_some() && (needed || balancing) && whole {
            return Ok(());
        }
        Err(forbidden(attributes, "only nodes of the host cluster may watch across clusters, and only what runs pods and leads to them"))
    }

    async fn is_bound_to(&self, attributes: &Attributes<'_>, node: &str) -> bool {
        if attributes.name.is_empty() || attributes.namespace.is_empty() {
            return false;
        }
        let key = Key::new(attributes.cluster, &GroupResource::new("", "pods"), attributes.namespace, attributes.name);
        let found = self.store.get(&key).await.ok().flatten();
        found.is_some_and(|record| stored(&record).object.to_value()["spec"]["nodeName"] == node)
    }
}
