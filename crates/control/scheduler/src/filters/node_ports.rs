//! NodePorts: no two pods share a port of the node.
use super::Filter;
use crate::fit_error::Rejection;
use crate::pod_info::HostPort;
use crate::{NodeInfo, Plugin, PodInfo};

pub struct NodePorts<'a>(&'a [HostPort]);

pub fn prepare(pod: &PodInfo) -> Option<NodePorts<'_>> {
    (!pod.host_ports.is_empty()).then_some(NodePorts(&pod.host_ports))
}

impl Filter for NodePorts<'_> {
    fn plugin(&self) -> Plugin {
        Plugin::NodePorts
    }
    fn check(&self, node: &NodeInfo) -> Result<(), Rejection> {
        let taken = self.0.iter().any(|port| node.host_ports.iter().any(|other| port.conflicts(other)));
        if taken { Err(Rejection::resolvable("node(s) didn't have free ports for the requested pod ports")) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use serde_json::{Value, json};

    #[test]
    fn ports_conflict_by_number_protocol_and_address() {
        let with = |port: Value| json!({"containers": [{"name": "c", "ports": [port]}]});
        let there = pod("there", with(json!({"containerPort": 1, "hostPort": 80, "hostIP": "10.0.0.1"})));
        let snapshot = snapshot(vec![node("n1", json!({}))], &[(there, "n1")]);
        for (port, fits) in [
            (json!({"containerPort": 1, "hostPort": 81}), true),
            (json!({"containerPort": 1, "hostPort": 80}), false),
            (json!({"containerPort": 1, "hostPort": 80, "protocol": "UDP"}), true),
            (json!({"containerPort": 1, "hostPort": 80, "hostIP": "10.0.0.2"}), true),
            (json!({"containerPort": 1, "hostPort": 80, "hostIP": "10.0.0.1"}), false),
            (json!({"containerPort": 80}), true),
        ] {
            assert_eq!(outcome(&pod("a", with(port.clone())), &snapshot) == "n1", fits, "{port}");
        }
    }
}
