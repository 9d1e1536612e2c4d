//! Node IPAM: every node gets a range of the cluster's pod addresses for its own pods, and keeps it.
//!
//! Source: upstream's nodeipam controller with its range allocator.
use controller_kit::{Controller, Error, Kit, ObjectKey, Objects, Plan, Preconditions, Recorder, Runner, async_trait};
use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::Node;
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Where nodes' ranges come from.
#[derive(Clone, Debug)]
pub struct NodeRanges {
    /// All pods of all nodes of a cluster.
    pub cluster_cidr: Ipv4Net,
    /// The prefix length of one node's range.
    pub prefix: u8,
    /// The range of the server's own node, which is nobody else's in the host cluster.
    pub reserved: Option<Ipv4Net>,
}

pub struct NodeIpam {
    nodes: Objects<Node>,
    events: Recorder,
    ranges: NodeRanges,
}

pub struct World {
    pub node: Arc<Node>,
    /// What other nodes have, and what none may get.
    pub used: BTreeSet<Ipv4Net>,
    pub ranges: NodeRanges,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Assign(Ipv4Net),
    TellNoneIsLeft,
}

pub(crate) fn runner(kit: &Kit, ranges: NodeRanges) -> Runner<NodeIpam> {
    let nodes = kit.objects::<Node>();
    // One worker: what one node got is in the cache before the next is looked at.
    Runner::new(NodeIpam { nodes: nodes.clone(), events: kit.recorder("cidrAllocator"), ranges }).workers(1).watch_own(&nodes)
}

/// The ranges a node has.
fn ranges_of(node: &Node) -> impl Iterator<Item = Ipv4Net> {
    let spec = node.spec.as_ref();
    let all = spec.into_iter().flat_map(|spec| spec.pod_cidrs.iter().flatten().chain(&spec.pod_cidr));
    all.filter_map(|range| range.parse().ok())
}

fn overlap(a: &Ipv4Net, b: &Ipv4Net) -> bool {
    a.contains(b) || b.contains(a)
}

#[async_trait]
impl Controller for NodeIpam {
    type World = World;
    type Action = Action;

    fn name(&self) -> &'static str {
        "node-ipam-controller"
    }

    fn observe(&self, key: &ObjectKey) -> Option<World> {
        let node = self.nodes.get(key)?;
        let mut used: BTreeSet<Ipv4Net> = self.nodes.list(&key.cluster, None).iter().flat_map(|node| ranges_of(node)).collect();
        used.extend(self.ranges.reserved.filter(|_| key.cluster.is_root()));
        Some(World { node, used, ranges: self.ranges.clone() })
    }

    fn reconcile(world: &World) -> Plan<Action> {
        if ranges_of(&world.node).next().is_some() {
            return Plan::nothing();
        }
        let NodeRanges { cluster_cidr, prefix, .. } = world.ranges;
        let mut free = cluster_cidr.subnets(prefix.max(cluster_cidr.prefix_len())).into_iter().flatten();
        match free.find(|range| !world.used.iter().any(|used| overlap(used, range))) {
            Some(range) => vec![Action::Assign(range)].into(),
            None => {
                let mut plan: Plan<Action> = vec![Action::TellNoneIsLeft].into();
                plan.look_again(std::time::Duration::from_secs(60));
                plan
            }
        }
    }

    async fn act(&self, key: &ObjectKey, action: Action) -> Result<(), Error> {
        let Some(node) = self.nodes.get(key) else { return Ok(()) };
        match action {
            Action::Assign(range) => {
                let patch = json!({"spec": {"podCIDR": range.to_string(), "podCIDRs": [range.to_string()]}});
                self.nodes.patch(key, "", &patch, &Preconditions::exactly(&node.metadata)).await?;
            }
            Action::TellNoneIsLeft => {
                self.events.normal(&key.cluster, &*node, "CIDRNotAvailable", format!("Node {} status is now: CIDRNotAvailable", key.name));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use controller_kit::converges;

    fn world(own: Option<&str>, used: &[&str], cluster: &str) -> World {
        let node: Node = serde_json::from_value(json!({"metadata": {"name": "n"}, "spec": own.map(|range| json!({"podCIDR": range}))})).unwrap();
        World {
            node: Arc::new(node),
            used: used.iter().map(|range| range.parse().unwrap()).collect(),
            ranges: NodeRanges { cluster_cidr: cluster.parse().unwrap(), prefix: 24, reserved: None },
        }
    }

    #[test]
    fn a_node_gets_the_first_range_nobody_has_and_keeps_it() {
        let decided = |own, used: &[&str], cluster| NodeIpam::reconcile(&world(own, used, cluster)).actions;
        let assign = |range: &str| vec![Action::Assign(range.parse().unwrap())];
        assert_eq!(decided(None, &[], "10.244.0.0/16"), assign("10.244.0.0/24"));
        assert_eq!(decided(None, &["10.244.0.0/24", "10.244.2.0/24"], "10.244.0.0/16"), assign("10.244.1.0/24"));
        assert_eq!(decided(None, &["10.244.0.0/23"], "10.244.0.0/16"), assign("10.244.2.0/24"), "a range of another size");
        assert_eq!(decided(Some("10.1.0.0/24"), &[], "10.244.0.0/16"), []);
        assert_eq!(decided(None, &["10.244.0.0/25"], "10.244.0.0/24"), [Action::TellNoneIsLeft]);
        assert_eq!(decided(None, &[], "10.244.0.0/26"), assign("10.244.0.0/26"), "a cluster of one node");
    }

    #[test]
    fn what_a_node_got_it_has() {
        let end = converges(world(None, &["10.244.0.0/24"], "10.244.0.0/16"), 1, NodeIpam::reconcile, |world, action| {
            let Action::Assign(range) = action else { panic!("there is room") };
            Arc::make_mut(&mut world.node).spec.get_or_insert_default().pod_cidr = Some(range.to_string());
        });
        assert_eq!(ranges_of(&end.node).collect::<Vec<_>>(), ["10.244.1.0/24".parse().unwrap()]);
    }
}
