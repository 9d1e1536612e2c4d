//! Node DNS: every node that joined answers its own pods' DNS questions, as an endpoint of the DNS Service for that node alone.
use api_meta::ClusterName;
use controller_kit::{Controller, Error, Kit, ObjectKey, Objects, Plan, Runner, async_trait};
use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointHints, EndpointPort, EndpointSlice, ForNode};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use std::net::Ipv4Addr;
use std::sync::Arc;

const NAMESPACE: &str = "kube-system";
const SERVICE: &str = "kube-dns";
const MANAGER: &str = "node-dns.k8shost.io";

pub struct NodeDns {
    nodes: Objects<Node>,
    slices: Objects<EndpointSlice>,
    /// Where nodes answer, UDP and TCP.
    port: i32,
    /// The server's own, whose endpoint is there from the start.
    own_node: Option<String>,
}

pub struct World {
    pub node: Arc<Node>,
    pub slice: Option<Arc<EndpointSlice>>,
    pub port: i32,
}

#[derive(Debug, PartialEq)]
pub enum Action {
    Create(Box<EndpointSlice>),
    Replace(Box<EndpointSlice>),
}

pub(crate) fn runner(kit: &Kit, port: u16, own_node: Option<String>) -> Runner<NodeDns> {
    let (nodes, slices) = (kit.objects::<Node>(), kit.objects::<EndpointSlice>());
    let of_node = |change: &controller_kit::Change<EndpointSlice>| {
        let node = change.key.name.strip_prefix(&format!("{SERVICE}-")).filter(|_| change.key.cluster.is_root() && *change.key.namespace == *NAMESPACE);
        node.map(|node| ObjectKey::new(&ClusterName::root(), "", node)).into_iter().collect()
    };
    Runner::new(NodeDns { nodes: nodes.clone(), slices: slices.clone(), port: port.into(), own_node })
        .watch(&nodes, |change| if change.key.cluster.is_root() { vec![change.key.clone()] } else { Vec::new() })
        .watch(&slices, of_node)
}

fn key(node: &str) -> ObjectKey {
    ObjectKey::new(&ClusterName::root(), NAMESPACE, &format!("{SERVICE}-{node}"))
}

/// The slice of a node; `None` while it has no addresses for pods. With the node it goes.
fn slice(node: &Node, port: i32) -> Option<EndpointSlice> {
    let name = node.metadata.name.clone()?;
    let range: Ipv4Net = node.spec.as_ref()?.pod_cidr.as_ref()?.parse().ok()?;
    let gateway = Ipv4Addr::from(u32::from(range.network()).saturating_add(1));
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let ready = conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let port = |name: &str, protocol: &str| EndpointPort { name: Some(name.into()), protocol: Some(protocol.into()), port: Some(port), app_protocol: None };
    let labels = [("kubernetes.io/service-name", SERVICE), ("endpointslice.kubernetes.io/managed-by", MANAGER)];
    Some(EndpointSlice {
        metadata: ObjectMeta {
            name: Some(format!("{SERVICE}-{name}")),
            namespace: Some(NAMESPACE.into()),
            labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
            owner_references: Some(vec![OwnerReference {
                api_version: "v1".into(),
                kind: "Node".into(),
                name: name.clone(),
                uid: node.metadata.uid.clone().unwrap_or_default(),
                ..Default::default()
            }]),
            ..Default::default()
        },
        address_type: "IPv4".into(),
        endpoints: Some(vec![Endpoint {
            addresses: vec![gateway.to_string()],
            conditions: Some(EndpointConditions { ready: Some(ready), serving: Some(ready), terminating: Some(false) }),
            hints: Some(EndpointHints { for_nodes: Some(vec![ForNode { name: name.clone() }]), for_zones: None }),
            node_name: Some(name),
            ..Default::default()
        }]),
        ports: Some(vec![port("dns", "UDP"), port("dns-tcp", "TCP")]),
    })
}

#[async_trait]
impl Controller for NodeDns {
    type World = World;
    type Action = Action;

    fn name(&self) -> &'static str {
        "node-dns-controller"
    }

    fn observe(&self, node: &ObjectKey) -> Option<World> {
        if self.own_node.as_deref() == Some(&*node.name) {
            return None;
        }
        Some(World { node: self.nodes.get(node)?, slice: self.slices.get(&key(&node.name)), port: self.port })
    }

    fn reconcile(world: &World) -> Plan<Action> {
        let Some(wanted) = slice(&world.node, world.port) else { return Plan::nothing() };
        let Some(have) = &world.slice else { return vec![Action::Create(Box::new(wanted))].into() };
        let mut right = (**have).clone();
        right.metadata.labels = wanted.metadata.labels;
        right.metadata.owner_references = wanted.metadata.owner_references;
        (right.endpoints, right.ports) = (wanted.endpoints, wanted.ports);
        if right == **have { Plan::nothing() } else { vec![Action::Replace(Box::new(right))].into() }
    }

    async fn act(&self, _: &ObjectKey, action: Action) -> Result<(), Error> {
        let root = ClusterName::root();
        match action {
            Action::Create(slice) => match self.slices.create(&root, &slice).await {
                Err(error) if !error.is_already_exists() => Err(error),
                _ => Ok(()),
            },
            Action::Replace(slice) => self.slices.replace(&root, &slice).await.map(drop),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use controller_kit::converges;
    use serde_json::json;

    #[test]
    fn a_node_answers_its_own_pods_once_it_has_addresses() {
        let node = |range: Option<&str>, ready: &str| -> Arc<Node> {
            let status = json!({"conditions": [{"type": "Ready", "status": ready}]});
            serde_json::from_value(json!({"metadata": {"name": "n1", "uid": "u"}, "spec": range.map(|range| json!({"podCIDR": range})), "status": status}))
                .unwrap()
        };
        let settle = |world| {
            converges(world, 2, NodeDns::reconcile, |world: &mut World, action| match action {
                Action::Create(slice) | Action::Replace(slice) => world.slice = Some(Arc::new(*slice)),
            })
        };
        let world = settle(World { node: node(None, "True"), slice: None, port: 10053 });
        assert_eq!(world.slice, None);
        let mut world = settle(World { node: node(Some("10.244.1.0/24"), "True"), ..world });
        let shown = |world: &World| {
            let endpoint = world.slice.as_ref().unwrap().endpoints.as_ref().unwrap()[0].clone();
            (endpoint.addresses[0].clone(), endpoint.conditions.unwrap().ready, endpoint.hints.unwrap().for_nodes.unwrap()[0].name.clone())
        };
        assert_eq!(shown(&world), ("10.244.1.1".into(), Some(true), "n1".into()));
        world.node = node(Some("10.244.1.0/24"), "Unknown");
        assert_eq!(shown(&settle(world)).1, Some(false));
    }
}
