//! Node IPAM: every node gets a range of the cluster's pod addresses of each family for its own pods, and keeps them.
//!
//! Source: upstream's nodeipam controller with its range allocator.
use controller_kit::{Controller, Error, Kit, ObjectKey, Objects, Plan, Preconditions, Recorder, Runner, async_trait};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Where nodes' ranges of one family come from.
#[derive(Clone, Copy, Debug)]
pub struct NodeRanges {
    /// All pods of all nodes of a cluster.
    pub cluster_cidr: IpNet,
    /// The prefix length of one node's range.
    pub prefix: u8,
    /// The range of the server's own node, which is nobody else's in the host cluster.
    pub reserved: Option<IpNet>,
}

pub struct NodeIpam {
    nodes: Objects<Node>,
    events: Recorder,
    families: Vec<NodeRanges>,
}

pub struct World {
    pub node: Arc<Node>,
    /// What other nodes have, and what none may get.
    pub used: BTreeSet<IpNet>,
    /// Of each family, the first one first.
    pub families: Vec<NodeRanges>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// A range of each family.
    Assign(Vec<IpNet>),
    TellNoneIsLeft,
}

pub(crate) fn runner(kit: &Kit, families: Vec<NodeRanges>) -> Runner<NodeIpam> {
    let nodes = kit.objects::<Node>();
    // One worker: what one node got is in the cache before the next is looked at.
    Runner::new(NodeIpam { nodes: nodes.clone(), events: kit.recorder("cidrAllocator"), families }).workers(1).watch_own(&nodes)
}

/// The ranges a node has.
fn ranges_of(node: &Node) -> impl Iterator<Item = IpNet> {
    let spec = node.spec.as_ref();
    let all = spec.into_iter().flat_map(|spec| spec.pod_cidrs.iter().flatten().chain(&spec.pod_cidr));
    all.filter_map(|range| range.parse().ok())
}

fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}

/// The first range of a node's size that nobody has.
fn free(family: &NodeRanges, used: &BTreeSet<IpNet>) -> Option<IpNet> {
    let mut all = family.cluster_cidr.subnets(family.prefix.max(family.cluster_cidr.prefix_len())).into_iter().flatten();
    all.find(|range| !used.iter().any(|used| overlap(used, range)))
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
        let mut used: BTreeSet<IpNet> = self.nodes.list(&key.cluster, None).iter().flat_map(|node| ranges_of(node)).collect();
        let mut families = self.families.clone();
        if key.cluster.is_root() {
            used.extend(families.iter().filter_map(|family| family.reserved));
        } else {
            // Virtual clusters have one family.
            families.truncate(1);
        }
        Some(World { node, used, families })
    }

    fn reconcile(world: &World) -> Plan<Action> {
        if ranges_of(&world.node).next().is_some() {
            return Plan::nothing();
        }
        match world.families.iter().map(|family| free(family, &world.used)).collect::<Option<Vec<IpNet>>>() {
            Some(ranges) => vec![Action::Assign(ranges)].into(),
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
            Action::Assign(ranges) => {
                let patch = json!({"spec": {"podCIDR": ranges.first(), "podCIDRs": ranges}});
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

    /// In a cluster of some ranges, separated by a comma.
    fn world(own: Option<&str>, used: &[&str], cluster: &str) -> World {
        let family = |range: &str| NodeRanges { cluster_cidr: range.parse().unwrap(), prefix: if range.contains(':') { 64 } else { 24 }, reserved: None };
        let node: Node = serde_json::from_value(json!({"metadata": {"name": "n"}, "spec": own.map(|range| json!({"podCIDR": range}))})).unwrap();
        World { node: Arc::new(node), used: used.iter().map(|range| range.parse().unwrap()).collect(), families: cluster.split(',').map(family).collect() }
    }

    #[test]
    fn a_node_gets_the_first_range_nobody_has_and_keeps_it() {
        let decided = |own, used: &[&str], cluster| NodeIpam::reconcile(&world(own, used, cluster)).actions;
        let assign = |ranges: &str| vec![Action::Assign(ranges.split(',').map(|range| range.parse().unwrap()).collect())];
        assert_eq!(decided(None, &[], "10.244.0.0/16"), assign("10.244.0.0/24"));
        assert_eq!(decided(None, &["10.244.0.0/24", "10.244.2.0/24"], "10.244.0.0/16"), assign("10.244.1.0/24"));
        assert_eq!(decided(None, &["10.244.0.0/23"], "10.244.0.0/16"), assign("10.244.2.0/24"), "a range of another size");
        assert_eq!(decided(Some("10.1.0.0/24"), &[], "10.244.0.0/16"), []);
        assert_eq!(decided(None, &["10.244.0.0/25"], "10.244.0.0/24"), [Action::TellNoneIsLeft]);
        assert_eq!(decided(None, &[], "10.244.0.0/26"), assign("10.244.0.0/26"), "a cluster of one node");
    }

    #[test]
    fn a_node_gets_a_range_of_each_family_or_none() {
        let decided = |own, used: &[&str], cluster| NodeIpam::reconcile(&world(own, used, cluster)).actions;
        let both = "10.42.0.0/16,fd42::/56";
        let assign = |v4: &str, v6: &str| vec![Action::Assign(vec![v4.parse().unwrap(), v6.parse().unwrap()])];
        assert_eq!(decided(None, &[], both), assign("10.42.0.0/24", "fd42::/64"));
        assert_eq!(decided(None, &["10.42.0.0/24", "fd42::/64", "fd42:0:0:1::/64"], both), assign("10.42.1.0/24", "fd42:0:0:2::/64"));
        assert_eq!(decided(None, &["fd42::/64"], "10.42.0.0/16,fd42::/64"), [Action::TellNoneIsLeft], "a node of one family is none of this cluster's");
        assert_eq!(decided(Some("10.42.0.0/24"), &[], both), [], "a node from before the cluster had two");
    }

    #[test]
    fn what_a_node_got_it_has() {
        let end = converges(world(None, &["10.244.0.0/24"], "10.244.0.0/16"), 1, NodeIpam::reconcile, |world, action| {
            let Action::Assign(ranges) = action else { panic!("there is room") };
            Arc::make_mut(&mut world.node).spec.get_or_insert_default().pod_cidrs = Some(ranges.iter().map(IpNet::to_string).collect());
        });
        assert_eq!(ranges_of(&end.node).collect::<Vec<_>>(), ["10.244.1.0/24".parse().unwrap()]);
    }
}
