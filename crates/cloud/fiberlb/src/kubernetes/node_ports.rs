//! What of the nodes' own addresses there is to give, where no pool is configured.
use crate::ControllerSettings;
use crate::allocation::Supply;
use crate::plan::is_candidate;
use controller_kit::{Kit, Objects};
use k8s_openapi::api::core::v1::{Node, Pod};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

pub struct NodePorts {
    pub nodes: Objects<Node>,
    pub pods: Objects<Pod>,
    pub settings: Arc<ControllerSettings>,
}

impl NodePorts {
    pub fn of(kit: &Kit, settings: Arc<ControllerSettings>) -> Self {
        Self { nodes: kit.objects(), pods: kit.objects(), settings }
    }

    /// Where addresses come from, for one who holds these ports already.
    pub fn supply(&self, held: &BTreeSet<String>, wanted: &BTreeSet<String>) -> Supply {
        if !self.settings.pool.is_empty() {
            return Supply::Pool(self.settings.pool.clone());
        }
        let nodes = self.nodes.all();
        let addresses = nodes.iter().filter(|(key, node)| key.cluster.is_root() && is_candidate(node)).filter_map(|(_, node)| address_of(node)).collect();
        let mut taken = BTreeMap::new();
        // Of ports that are held the listener is our own.
        if !wanted.is_subset(held) {
            taken.extend(listening().into_iter().map(|port| (port, "a process of the node".to_owned())));
            taken.extend(self.pods.all().iter().flat_map(|(_, pod)| host_ports(pod)).map(|port| (port, "a pod's host port".to_owned())));
        }
        // Last: these say best who it is.
        taken.extend(self.settings.reserved_ports.clone());
        taken.retain(|port, _| !held.contains(port));
        Supply::Nodes { addresses, taken }
    }
}

/// Whether what a node offers changed.
pub fn offers_change(old: Option<&Node>, new: Option<&Node>) -> bool {
    let offer = |node: Option<&Node>| node.filter(|node| is_candidate(node)).and_then(address_of);
    offer(old) != offer(new)
}

fn address_of(node: &Node) -> Option<Ipv4Addr> {
    let addresses = node.status.as_ref()?.addresses.as_ref()?;
    addresses.iter().filter(|address| address.type_ == "InternalIP").find_map(|address| address.address.parse().ok())
}

/// Ports of its node that a pod has.
fn host_ports(pod: &Pod) -> BTreeSet<String> {
    let ended = pod.status.as_ref().and_then(|status| status.phase.as_deref()).is_some_and(|phase| matches!(phase, "Succeeded" | "Failed"));
    let containers = pod.spec.iter().filter(|_| !ended).flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
    let ports = containers.flat_map(|container| container.ports.iter().flatten()).filter(|port| port.host_port.is_some_and(|port| port != 0));
    ports.map(|port| format!("{}/{}", port.protocol.as_deref().unwrap_or("TCP"), port.host_port.unwrap_or_default())).collect()
}

/// Ports that processes of this machine listen on, at addresses others reach.
fn listening() -> BTreeSet<String> {
    let mut found = BTreeMap::new();
    // A TCP socket that listens is in state 10 (0A); a UDP one that is bound to no peer in 7.
    for (file, protocol, state) in [("tcp", "TCP", "0A"), ("tcp6", "TCP", "0A"), ("udp", "UDP", "07"), ("udp6", "UDP", "07")] {
        let table = std::fs::read_to_string(format!("/proc/net/{file}")).unwrap_or_default();
        found.extend(table.lines().skip(1).filter_map(|line| listener(line, state)).map(|port| (format!("{protocol}/{port}"), ())));
    }
    found.into_keys().collect()
}

/// The port of a line such as `0: 0100007F:1F90 00000000:0000 0A ...`, unless it is loopback's.
fn listener(line: &str, state: &str) -> Option<u16> {
    let mut words = line.split_whitespace().skip(1);
    let (address, port) = words.next()?.split_once(':')?;
    let loopback = address.len() == 8 && address.ends_with("7F") || address == "00000000000000000000000001000000";
    (words.nth(1)? == state && !loopback).then(|| u16::from_str_radix(port, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_read_from_the_kernels_table() {
        for (line, port) in [
            ("   0: 00000000:1F90 00000000:0000 0A 00000000:00000000", Some(8080)),
            ("   1: 0100007F:1F90 00000000:0000 0A 00000000:00000000", None),
            ("   2: 0200020C:0016 0100020C:E1F4 01 00000000:00000000", None),
            ("   3: 00000000000000000000000000000000:192B 00000000000000000000000000000000:0000 0A 00000000:00000000", Some(6443)),
            ("", None),
        ] {
            assert_eq!(listener(line, "0A"), port, "{line}");
        }
    }
}
