//! The ways to other nodes' pods: what they shall be, from the nodes there are. Pure.
//!
//! A node on a link of this one is its pods' gateway. To all others, and for whatever travels in a virtual cluster's
//! name, there is a VXLAN tunnel: its group policy field carries the number of the cluster, so that the node a packet
//! comes to judges it as the one it left did.
use crate::isolation::CLUSTER_MASK;
use api_meta::IpFamily;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

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
    pub second: Option<SecondPeer>,
}

/// What a node has of the second family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SecondPeer {
    pub pod_cidr: Ipv6Net,
    /// `None`: its pods are reached through the tunnel alone.
    pub address: Option<Ipv6Addr>,
}

impl Peer {
    /// Its pods' ranges, with its own address of the same family.
    pub fn ranges(&self) -> impl Iterator<Item = (IpNet, Option<IpAddr>)> {
        let second = self.second.map(|second| (IpNet::V6(second.pod_cidr), second.address.map(IpAddr::V6)));
        std::iter::once((IpNet::V4(self.pod_cidr), Some(IpAddr::V4(self.address)))).chain(second)
    }

    /// Where its end of the tunnel is reached inside of it: the first address of its pods' range, which no pod has.
    pub fn inner(&self, family: IpFamily) -> Option<IpAddr> {
        self.ranges().map(|(range, _)| range.network()).find(|address| IpFamily::of(*address) == family)
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
    /// Over this device, with the node's address there as gateway.
    Direct(IpAddr, u32),
    Tunnel,
}

/// Peers by their ranges. `links` are this machine's devices and their networks, but for the pod network's own.
pub fn plan(cluster_cidrs: &[IpNet], own: Peer, links: &[(u32, IpNet)], peers: &[Peer]) -> BTreeMap<IpNet, (Peer, Way)> {
    let mut ways: BTreeMap<IpNet, (Peer, Way)> = BTreeMap::new();
    for peer in peers.iter().filter(|peer| peer.address != own.address) {
        for (range, address) in peer.ranges() {
            let overlaps = |other: IpNet| other.contains(&range) || range.contains(&other);
            // A range that is not the cluster's, or somebody else's already, would lead traffic away from where it belongs.
            if !cluster_cidrs.iter().any(|cluster| cluster.contains(&range))
                || own.ranges().any(|(own, _)| overlaps(own))
                || ways.keys().any(|other| overlaps(*other))
            {
                continue;
            }
            let direct = address.and_then(|address| {
                let link = links.iter().find(|(_, network)| network.prefix_len() < network.max_prefix_len() && network.contains(&address));
                link.map(|(index, _)| Way::Direct(address, *index))
            });
            ways.insert(range, (*peer, direct.unwrap_or(Way::Tunnel)));
        }
    }
    ways
}

/// The rules of these families for what comes from other nodes and goes to them, in one transaction.
pub fn rules(families: &[IpFamily], peers: &BTreeSet<IpAddr>) -> String {
    families.iter().map(|family| rules_of(*family, peers)).collect()
}

fn rules_of(family: IpFamily, peers: &BTreeSet<IpAddr>) -> String {
    let (ip, address_type) = (family.header(), family.address_type());
    // The tunnel itself is IPv4's.
    let input = match family {
        IpFamily::V4 => {
            format!(" chain input {{\n  type filter hook input priority filter - 6; policy accept;\n  udp dport {PORT} ip saddr != @peers drop\n }}\n")
        }
        IpFamily::V6 => String::new(),
    };
    let mut text = format!(
        "add table {ip} {TABLE}
delete table {ip} {TABLE}
table {ip} {TABLE} {{
 set peers {{
  type {address_type}
 }}
 chain arriving {{
  type filter hook prerouting priority mangle - 1; policy accept;
  iifname \"{TUNNEL}\" meta mark set meta mark << 16
 }}
 chain leaving {{
  type filter hook postrouting priority srcnat + 10; policy accept;
  oifname \"{TUNNEL}\" meta mark set meta mark >> 16
 }}
{input} chain forward {{
  type filter hook forward priority filter - 6; policy accept;
  meta mark & {CLUSTER_MASK:#x} != 0 ct direction original {ip} daddr @peers drop
 }}
}}
"
    );
    for peer in peers.iter().filter(|peer| IpFamily::of(**peer) == family) {
        writeln!(text, "add element {ip} {TABLE} peers {{ {peer} }}").expect("a string takes all");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(address: &str, range: &str) -> Peer {
        Peer { address: address.parse().unwrap(), pod_cidr: range.parse().unwrap(), second: None }
    }

    #[test]
    fn nodes_on_a_link_are_gateways_and_others_are_tunnelled_to() {
        let own = peer("192.0.2.1", "10.244.0.0/24");
        let links = [(2, "192.0.2.1/24".parse().unwrap()), (3, "198.51.100.1/32".parse().unwrap())];
        let peers = [peer("192.0.2.2", "10.244.1.0/24"), peer("203.0.113.9", "10.244.2.0/24"), peer("198.51.100.1", "10.244.3.0/24"), own];
        let ways = plan(&["10.244.0.0/16".parse().unwrap()], own, &links, &peers);
        let shown: Vec<String> = ways.iter().map(|(range, (peer, way))| format!("{range} {} {way:?}", peer.address)).collect();
        assert_eq!(shown, ["10.244.1.0/24 192.0.2.2 Direct(192.0.2.2, 2)", "10.244.2.0/24 203.0.113.9 Tunnel", "10.244.3.0/24 198.51.100.1 Tunnel"]);
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
        let ways = plan(&["10.244.0.0/16".parse().unwrap()], own, &[], &peers);
        assert_eq!(ways.keys().map(ToString::to_string).collect::<Vec<_>>(), ["10.244.1.0/24"]);
    }

    #[test]
    fn second_ranges_have_ways_of_their_own() {
        let with = |peer: Peer, range: &str, address: Option<&str>| Peer {
            second: Some(SecondPeer { pod_cidr: range.parse().unwrap(), address: address.map(|address| address.parse().unwrap()) }),
            ..peer
        };
        let own = with(peer("192.0.2.1", "10.244.0.0/24"), "fd42::/64", Some("2001:db8::1"));
        let links = [(2, "192.0.2.1/24".parse().unwrap()), (2, "2001:db8::1/64".parse().unwrap())];
        let peers = [
            with(peer("192.0.2.2", "10.244.1.0/24"), "fd42:0:0:1::/64", Some("2001:db8::2")),
            with(peer("192.0.2.3", "10.244.2.0/24"), "fd42:0:0:2::/64", None),
            with(peer("203.0.113.9", "10.244.3.0/24"), "fd43::/64", Some("2001:db8::9")),
        ];
        let clusters = ["10.244.0.0/16".parse().unwrap(), "fd42::/56".parse().unwrap()];
        let shown = |clusters: &[IpNet]| plan(clusters, own, &links, &peers).iter().map(|(range, (_, way))| format!("{range} {way:?}")).collect::<Vec<_>>();
        let first = ["10.244.1.0/24 Direct(192.0.2.2, 2)", "10.244.2.0/24 Direct(192.0.2.3, 2)", "10.244.3.0/24 Tunnel"];
        assert_eq!(shown(&clusters), [&first[..], &["fd42:0:0:1::/64 Direct(2001:db8::2, 2)", "fd42:0:0:2::/64 Tunnel"]].concat());
        assert_eq!(shown(&clusters[..1]), first, "a cluster of one family has ways of it alone");
        let text = rules(&IpFamily::BOTH, &BTreeSet::from(["192.0.2.2".parse().unwrap(), "2001:db8::2".parse().unwrap()]));
        assert!(text.contains("direction original ip6 daddr @peers drop") && text.ends_with("ip6 k8shost-prismnet-peers peers { 2001:db8::2 }\n"), "{text}");
    }

    #[test]
    fn only_nodes_may_send_through_the_tunnel() {
        let text = rules(&[IpFamily::V4], &BTreeSet::from(["192.0.2.2".parse().unwrap()]));
        assert!(text.contains("udp dport 4789 ip saddr != @peers drop") && text.ends_with("peers { 192.0.2.2 }\n"));
        assert_eq!(hardware_address("192.0.2.2".parse().unwrap()), [0x0e, 0x58, 192, 0, 2, 2]);
    }
}
