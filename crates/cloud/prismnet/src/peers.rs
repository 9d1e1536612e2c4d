//! The ways to other nodes' pods: what they shall be, from the nodes there are. Pure.
//!
//! A node on a link of this one is its pods' gateway. To all others, and for whatever travels in a virtual cluster's
//! name, there is a VXLAN tunnel: its group policy field carries the number of the cluster, so that the node a packet
//! comes to judges it as the one it left did.
use crate::isolation::CLUSTER_MASK;
use ipnet::Ipv4Net;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::Ipv4Addr;

/// The tunnel's device.
pub const TUNNEL: &str = "prism-vxlan";
pub const VNI: u32 = 1;
/// IANA's.
pub const PORT: u16 = 4789;
/// Outer Ethernet, IPv4, UDP and VXLAN headers.
pub const OVERHEAD: u32 = 50;
/// The routing table for what travels in a virtual cluster's name, and the priority of the rule that leads there.
pub const TUNNEL_ONLY: u8 = 58;
pub const RULE_PRIORITY: u32 = 5800;
/// By this the routes that are ours are told from others'.
pub const METRIC: u32 = 58;
/// The nftables table of what concerns other nodes. The isolation's is made anew at other times than this.
pub const TABLE: &str = "k8shost-prismnet-peers";

/// Another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peer {
    pub address: Ipv4Addr,
    pub pod_cidr: Ipv4Net,
}

impl Peer {
    /// Where its end of the tunnel is reached inside of it: the first address of its pods' range, which no pod has.
    pub fn inner(&self) -> Ipv4Addr {
        self.pod_cidr.network()
    }
}

/// The hardware address of a node's end of the tunnel: it follows from the node's address, so nobody has to tell it.
pub fn hardware_address(node: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = node.octets();
    [0x0e, 0x58, a, b, c, d]
}

/// How a node's pods are reached from the host cluster's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Over this device, with the node as gateway.
    Direct(u32),
    Tunnel,
}

/// Peers by their range. `links` are this machine's devices and their networks, but for the pod network's own.
pub fn plan(cluster_cidr: Ipv4Net, own: Peer, links: &[(u32, Ipv4Net)], peers: &[Peer]) -> BTreeMap<Ipv4Net, (Peer, Way)> {
    let mut ways = BTreeMap::new();
    for peer in peers {
        let overlaps = |other: Ipv4Net| other.contains(&peer.pod_cidr) || peer.pod_cidr.contains(&other);
        // A range that is not the cluster's, or somebody else's already, would lead traffic away from where it belongs.
        if peer.address == own.address || !cluster_cidr.contains(&peer.pod_cidr) || overlaps(own.pod_cidr) || ways.keys().any(|other| overlaps(*other)) {
            continue;
        }
        let link = links.iter().find(|(_, network)| network.prefix_len() < 32 && network.contains(&peer.address));
        ways.insert(peer.pod_cidr, (*peer, link.map_or(Way::Tunnel, |(index, _)| Way::Direct(*index))));
    }
    ways
}

/// The rules for what comes from other nodes and goes to them, in one transaction.
pub fn rules(peers: &[Ipv4Addr]) -> String {
    let mut text = format!(
        "add table ip {TABLE}
delete table ip {TABLE}
table ip {TABLE} {{
 set peers {{
  type ipv4_addr
 }}
 chain arriving {{
  type filter hook prerouting priority mangle - 1; policy accept;
  iifname \"{TUNNEL}\" meta mark set meta mark << 16
 }}
 chain leaving {{
  type filter hook postrouting priority srcnat + 10; policy accept;
  oifname \"{TUNNEL}\" meta mark set meta mark >> 16
 }}
 chain input {{
  type filter hook input priority filter - 6; policy accept;
  udp dport {PORT} ip saddr != @peers drop
 }}
 chain forward {{
  type filter hook forward priority filter - 6; policy accept;
  meta mark & {CLUSTER_MASK:#x} != 0 ct direction original ip daddr @peers drop
 }}
}}
"
    );
    for peer in peers {
        writeln!(text, "add element ip {TABLE} peers {{ {peer} }}").expect("a string takes all");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(address: &str, range: &str) -> Peer {
        Peer { address: address.parse().unwrap(), pod_cidr: range.parse().unwrap() }
    }

    #[test]
    fn nodes_on_a_link_are_gateways_and_others_are_tunnelled_to() {
        let own = peer("192.0.2.1", "10.244.0.0/24");
        let links = [(2, "192.0.2.1/24".parse().unwrap()), (3, "198.51.100.1/32".parse().unwrap())];
        let peers = [peer("192.0.2.2", "10.244.1.0/24"), peer("203.0.113.9", "10.244.2.0/24"), peer("198.51.100.1", "10.244.3.0/24"), own];
        let ways = plan("10.244.0.0/16".parse().unwrap(), own, &links, &peers);
        let shown: Vec<String> = ways.iter().map(|(range, (peer, way))| format!("{range} {} {way:?}", peer.address)).collect();
        assert_eq!(shown, ["10.244.1.0/24 192.0.2.2 Direct(2)", "10.244.2.0/24 203.0.113.9 Tunnel", "10.244.3.0/24 198.51.100.1 Tunnel"]);
    }

    #[test]
    fn a_range_is_one_nodes_and_the_clusters() {
        let own = peer("192.0.2.1", "10.244.0.0/24");
        let peers = [
            peer("192.0.2.2", "10.244.1.0/24"),
            peer("192.0.2.3", "10.244.1.0/25"),
            peer("192.0.2.4", "10.244.0.128/25"),
            peer("192.0.2.5", "10.0.0.0/8"),
            peer("192.0.2.6", "192.0.2.0/24"),
        ];
        let ways = plan("10.244.0.0/16".parse().unwrap(), own, &[], &peers);
        assert_eq!(ways.keys().map(ToString::to_string).collect::<Vec<_>>(), ["10.244.1.0/24"]);
    }

    #[test]
    fn only_nodes_may_send_through_the_tunnel() {
        let text = rules(&["192.0.2.2".parse().unwrap()]);
        assert!(text.contains("udp dport 4789 ip saddr != @peers drop") && text.ends_with("peers { 192.0.2.2 }\n"));
        assert_eq!(hardware_address("192.0.2.2".parse().unwrap()), [0x0e, 0x58, 192, 0, 2, 2]);
    }
}
