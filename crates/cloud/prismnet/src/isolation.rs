//! Isolation: the rules that keep the pods of different clusters apart, as nft writes them. Pure.
//!
//! The upper half of a packet's mark is the number of the cluster in whose name it travels: that of the pod it comes
//! from, 0 for the host cluster and everybody else. (Who leads traffic on, as the Service proxy does for node ports, may
//! change it to the cluster it leads to; and a process of the machine that acts for a cluster marks what it sends.) A packet is let through where that cluster may be reached. Every packet is
//! judged, by the node it goes to where that is another one, and not only a flow's first: an address may be another cluster's pod by now. Answers follow what was let through.
use crate::node::TABLE;
use crate::peers::TUNNEL;
use crate::{AddressPool, Lease, NodeNetwork, VirtualClusters};
use ipnet::Ipv4Net;
use std::fmt::Write;
use std::net::Ipv4Addr;

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

/// The sets and chains of the node's table, with the pods that are there.
///
/// A cluster's address is led to by a Service of the host cluster that exposes its API: that alone gets there from elsewhere.
pub(crate) fn chains(network: &NodeNetwork, virtual_clusters: &VirtualClusters, pool: &AddressPool) -> String {
    let VirtualClusters { range, api_port, dns_port } = virtual_clusters;
    let (pods, cluster) = (network.cluster_cidr, format!("meta mark & {CLUSTER_MASK:#x}"));
    let mut text = format!(
        " map {CLUSTERS} {{
  type ipv4_addr : mark
 }}
 set {HOSTED} {{
  type ipv4_addr
 }}
 set {MEMBERS} {{
  type mark . ipv4_addr
 }}
 chain marking {{
  type filter hook prerouting priority mangle; policy accept;
  meta mark set ip saddr map @{CLUSTERS}
 }}
 chain forward {{
  type filter hook forward priority filter - 5; policy accept;
  ct direction reply accept
  {cluster} == 0 goto forward-host
  {cluster} . ip daddr @{MEMBERS} accept
  oifname \"{TUNNEL}\" accept
  ip daddr {{ {pods}, {range} }} drop
 }}
 chain forward-host {{
  ip daddr @{HOSTED} drop
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
  {cluster} . ip daddr @{MEMBERS} accept
  oifname \"{TUNNEL}\" accept
  ip daddr {{ {pods}, {range} }} drop
 }}
 chain doors {{
  {cluster} . ip daddr @{MEMBERS} meta l4proto . th dport {{ tcp . {api_port}, tcp . {dns_port}, udp . {dns_port} }} accept
  drop
 }}
 chain input-host {{
  ip daddr {range} ct status dnat tcp dport {api_port} accept
  ip daddr {range} drop
 }}
"
    );
    text.push_str("}\n");
    for (address, lease) in pool.leases.iter().filter(|(_, lease)| lease.cluster != 0) {
        text.push_str(&admit(*range, *address, lease));
    }
    text
}

/// Lets a virtual cluster's pod in. May be repeated.
pub(crate) fn admit(range: Ipv4Net, address: Ipv4Addr, lease: &Lease) -> String {
    elements(range, address, lease, true).iter().fold(String::new(), |mut text, element| {
        writeln!(text, "add element ip {TABLE} {element}").expect("a string takes all");
        text
    })
}

/// Takes what was let in for a lease back; `last` when its cluster has no other pod here. May be repeated.
pub(crate) fn withdraw(range: Ipv4Net, address: Ipv4Addr, lease: &Lease, last: bool) -> String {
    elements(range, address, lease, last).iter().fold(String::new(), |mut text, element| {
        // Only what is there can be deleted.
        writeln!(text, "add element ip {TABLE} {element}\ndelete element ip {TABLE} {element}").expect("a string takes all");
        text
    })
}

/// Fails where a pod of this cluster is not let in.
pub(crate) fn look(address: Ipv4Addr, number: u16) -> String {
    format!("get element ip {TABLE} {CLUSTERS} {{ {address} }}\nget element ip {TABLE} {MEMBERS} {{ {:#x} . {address} }}\n", mark(number))
}

fn elements(range: Ipv4Net, address: Ipv4Addr, lease: &Lease, door: bool) -> Vec<String> {
    let mark = mark(lease.cluster);
    let mut elements =
        vec![format!("{CLUSTERS} {{ {address} : {mark:#x} }}"), format!("{HOSTED} {{ {address} }}"), format!("{MEMBERS} {{ {mark:#x} . {address} }}")];
    if door {
        elements.push(format!("{MEMBERS} {{ {mark:#x} . {} }}", cluster_address(range, lease.cluster)));
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
        let address = Ipv4Addr::new(10, 244, 0, 5);
        let admitted = admit(range, address, &lease);
        assert_eq!(
            admitted.lines().map(|line| line.trim_start_matches("add element ip k8shost-prismnet ")).collect::<Vec<_>>(),
            ["clusters { 10.244.0.5 : 0x1020000 }", "hosted { 10.244.0.5 }", "members { 0x1020000 . 10.244.0.5 }", "members { 0x1020000 . 100.64.1.2 }"]
        );
        assert!(!withdraw(range, address, &lease, false).contains("100.64.1.2"));
        assert!(withdraw(range, address, &lease, true).contains("delete element ip k8shost-prismnet members { 0x1020000 . 100.64.1.2 }"));
    }
}
