//! Isolation: the rules that keep the pods of different clusters apart, as nft writes them. Pure.
//!
//! The upper half of a packet's mark is the number of the cluster in whose name it travels: that of the pod it comes
//! from, 0 for the host cluster and everybody else. (Who leads traffic on, as the Service proxy does for node ports, may
//! change it to the cluster it leads to; and a process of the machine that acts for a cluster marks what it sends.) A packet is let through where that cluster may be reached. Every packet is
//! judged, by the node it goes to where that is another one, and not only a flow's first: an address may be another cluster's pod by now. Answers follow what was let through.
use crate::node::TABLE;
use crate::peers::TUNNEL;
use crate::settings::Ranges;
use crate::{AddressPool, Lease, PortAddresses, VirtualClusters};
use api_meta::IpFamily;
use ipnet::Ipv4Net;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};

/// The part of a packet's mark that holds the number.
pub const CLUSTER_MASK: u32 = 0xffff_0000;

/// A packet's mark in the name of a cluster.
pub fn mark(number: u16) -> u32 {
    u32::from(number) << 16
}

/// The address that means a cluster on its nodes.
pub fn cluster_address(range: Ipv4Net, number: u16) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(range.network()).saturating_add(number.into()))
}

/// Where packets from pods get their mark.
const CLUSTERS: &str = "clusters";
/// Pods of virtual clusters: nobody else's traffic reaches them.
const HOSTED: &str = "hosted";
/// Which address may be reached in whose name.
const MEMBERS: &str = "members";

/// The sets and chains of the node's table of a family, with the pods that are there.
///
/// A cluster's address is led to by a Service of the host cluster that exposes its API: that alone gets there from elsewhere.
/// It is an IPv4 one, so by IPv6 a virtual cluster's pods reach nothing of the node.
pub(crate) fn chains(ranges: &Ranges, virtual_clusters: &VirtualClusters, pool: &AddressPool) -> String {
    let VirtualClusters { range, api_port, dns_port } = virtual_clusters;
    let (pods, cluster) = (ranges.cluster_cidr, format!("meta mark & {CLUSTER_MASK:#x}"));
    let (ip, address_type) = (ranges.family.header(), ranges.family.address_type());
    let (inner, doors, from_host) = match ranges.family {
        IpFamily::V4 => (
            format!("{{ {pods}, {range} }}"),
            format!("  {cluster} . ip daddr @{MEMBERS} meta l4proto . th dport {{ tcp . {api_port}, tcp . {dns_port}, udp . {dns_port} }} accept\n"),
            format!("  ip daddr {range} ct status dnat tcp dport {api_port} accept\n  ip daddr {range} drop\n"),
        ),
        IpFamily::V6 => (format!("{{ {pods}, fe80::/10, ff00::/8 }}"), String::new(), String::new()),
    };
    let mut text = format!(
        " map {CLUSTERS} {{
  type {address_type} : mark
 }}
 set {HOSTED} {{
  type {address_type}
 }}
 set {MEMBERS} {{
  type mark . {address_type}
 }}
 chain marking {{
  type filter hook prerouting priority mangle; policy accept;
  meta mark set {ip} saddr map @{CLUSTERS}
 }}
 chain forward {{
  type filter hook forward priority filter - 5; policy accept;
  ct direction reply accept
  {cluster} == 0 goto forward-host
  {cluster} . {ip} daddr @{MEMBERS} accept
  oifname \"{TUNNEL}\" accept
  {ip} daddr {inner} drop
 }}
 chain forward-host {{
  {ip} daddr @{HOSTED} drop
 }}
 chain input {{
  type filter hook input priority filter - 5; policy accept;
  iifname \"lo\" accept
  ct direction reply accept
  {cluster} == 0 goto input-host
  goto doors
 }}
 chain output {{
  type filter hook output priority filter - 5; policy accept;
  {cluster} == 0 accept
  ct direction reply accept
  fib daddr type local goto doors
  {cluster} . {ip} daddr @{MEMBERS} accept
  oifname \"{TUNNEL}\" accept
  {ip} daddr {inner} drop
 }}
 chain doors {{
{doors}  drop
 }}
 chain input-host {{
{from_host} }}
"
    );
    text.push_str("}\n");
    for (addresses, lease) in pool.ports().filter(|(_, lease)| lease.cluster != 0) {
        let elements = elements(*range, addresses, lease, true);
        elements.iter().filter(|(family, _)| *family == ranges.family).for_each(|element| text.push_str(&add(element)));
    }
    text
}

/// Lets a virtual cluster's pod in. May be repeated.
pub(crate) fn admit(range: Ipv4Net, addresses: PortAddresses, lease: &Lease) -> String {
    elements(range, addresses, lease, true).iter().map(add).collect()
}

/// Takes what was let in for a lease back; `last` when its cluster has no other pod here. May be repeated.
pub(crate) fn withdraw(range: Ipv4Net, addresses: PortAddresses, lease: &Lease, last: bool) -> String {
    elements(range, addresses, lease, last).iter().fold(String::new(), |mut text, (family, element)| {
        let ip = family.header();
        // Only what is there can be deleted.
        writeln!(text, "add element {ip} {TABLE} {element}\ndelete element {ip} {TABLE} {element}").expect("a string takes all");
        text
    })
}

/// Fails where a pod of this cluster is not let in.
pub(crate) fn look(addresses: PortAddresses, number: u16) -> String {
    addresses.iter().fold(String::new(), |mut text, address| {
        let (ip, mark) = (IpFamily::of(address).header(), mark(number));
        writeln!(text, "get element {ip} {TABLE} {CLUSTERS} {{ {address} }}\nget element {ip} {TABLE} {MEMBERS} {{ {mark:#x} . {address} }}")
            .expect("a string takes all");
        text
    })
}

fn add((family, element): &(IpFamily, String)) -> String {
    format!("add element {} {TABLE} {element}\n", family.header())
}

fn elements(range: Ipv4Net, addresses: PortAddresses, lease: &Lease, door: bool) -> Vec<(IpFamily, String)> {
    let mark = mark(lease.cluster);
    let of = |address: IpAddr| {
        [format!("{CLUSTERS} {{ {address} : {mark:#x} }}"), format!("{HOSTED} {{ {address} }}"), format!("{MEMBERS} {{ {mark:#x} . {address} }}")]
            .map(|element| (IpFamily::of(address), element))
    };
    let mut elements: Vec<_> = addresses.iter().flat_map(of).collect();
    if door {
        elements.push((IpFamily::V4, format!("{MEMBERS} {{ {mark:#x} . {} }}", cluster_address(range, lease.cluster))));
    }
    elements
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_a_few_elements_and_its_cluster_one_more() {
        let lease = Lease { container: "c".into(), interface: "eth0".into(), namespace: String::new(), identity: (0, 0), cluster: 258, pod: None, held: false };
        let range = "100.64.0.0/16".parse().unwrap();
        let mut address = PortAddresses { first: Ipv4Addr::new(10, 244, 0, 5), second: None };
        let admitted = admit(range, address, &lease);
        assert_eq!(
            admitted.lines().map(|line| line.trim_start_matches("add element ip k8shost-prismnet ")).collect::<Vec<_>>(),
            ["clusters { 10.244.0.5 : 0x1020000 }", "hosted { 10.244.0.5 }", "members { 0x1020000 . 10.244.0.5 }", "members { 0x1020000 . 100.64.1.2 }"]
        );
        assert!(!withdraw(range, address, &lease, false).contains("100.64.1.2"));
        assert!(withdraw(range, address, &lease, true).contains("delete element ip k8shost-prismnet members { 0x1020000 . 100.64.1.2 }"));
        address.second = Some("fd42::5".parse().unwrap());
        let dual = admit(range, address, &lease);
        let second: Vec<&str> = dual.lines().filter_map(|line| line.strip_prefix("add element ip6 k8shost-prismnet ")).collect();
        assert_eq!(second, ["clusters { fd42::5 : 0x1020000 }", "hosted { fd42::5 }", "members { 0x1020000 . fd42::5 }"]);
        assert_eq!(dual.lines().filter(|line| !line.contains("ip6")).collect::<Vec<_>>(), admitted.lines().collect::<Vec<_>>());
    }
}
