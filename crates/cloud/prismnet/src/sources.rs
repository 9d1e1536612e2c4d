//! Sources: the rules that let each port send with its own addresses alone, as nft writes them. Pure.
//!
//! Strict reverse path filtering keeps a pod from another's IPv4 address already; here the hardware address counts too, so
//! that whatever looks at either is told the truth. For IPv6 there is no such filter, so these rules are all: they also
//! drop what is for neighbours, as both ends of a port know each other's address without asking.
use crate::node::TABLE;
use crate::peers::TUNNEL;
use crate::plan::{hardware_address, host_interface};
use crate::{AddressPool, Lease, PortAddresses};
use api_meta::IpFamily;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};

/// Ports with the addresses they may send from.
const PORTS: &str = "ports";
/// Neighbour discovery, router advertisements and redirects.
const NEIGHBOURS_TALK: &str = "nd-router-solicit, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert, nd-redirect";

/// The part of the node's table of a family that is about this, with the ports there are.
pub(crate) fn chain(family: IpFamily, bridge: &str, pool: &AddressPool) -> String {
    let ports: Vec<String> = pool
        .ports()
        .flat_map(|(addresses, lease)| addresses.iter().map(move |address| (address, addresses.first, lease)))
        .filter(|(address, ..)| IpFamily::of(*address) == family)
        .map(|(address, first, lease)| port(address, first, lease))
        .collect();
    let elements = if ports.is_empty() { String::new() } else { format!("\n  elements = {{ {} }}", ports.join(", ")) };
    let from_port = format!("iifname \"prism*\" iifname != {{ \"{bridge}\", \"{TUNNEL}\" }}");
    let neighbours = match family {
        IpFamily::V4 => String::new(),
        IpFamily::V6 => format!("  {from_port} ip6 daddr {{ fe80::/10, ff00::/8 }} drop\n  {from_port} icmpv6 type {{ {NEIGHBOURS_TALK} }} drop\n"),
    };
    format!(
        " set {PORTS} {{
  type ifname . {} . ether_addr{elements}
 }}
 chain sources {{
  type filter hook prerouting priority raw; policy accept;
  {from_port} iifname . {} saddr . ether saddr != @{PORTS} drop
{neighbours} }}
",
        family.address_type(),
        family.header()
    )
}

/// Lets a port send. May be repeated.
pub(crate) fn admit(addresses: PortAddresses, lease: &Lease) -> String {
    elements(addresses, lease).fold(String::new(), |mut text, element| {
        writeln!(text, "add element {element}").expect("a string takes all");
        text
    })
}

/// Takes that back. May be repeated: only what is there can be deleted.
pub(crate) fn withdraw(addresses: PortAddresses, lease: &Lease) -> String {
    elements(addresses, lease).fold(String::new(), |mut text, element| {
        writeln!(text, "add element {element}\ndelete element {element}").expect("a string takes all");
        text
    })
}

fn elements(addresses: PortAddresses, lease: &Lease) -> impl Iterator<Item = String> {
    let one = move |address: IpAddr| format!("{} {TABLE} {PORTS} {{ {} }}", IpFamily::of(address).header(), port(address, addresses.first, lease));
    addresses.iter().map(one)
}

fn port(address: IpAddr, first: Ipv4Addr, lease: &Lease) -> String {
    let hardware = hardware_address(first).map(|byte| format!("{byte:02x}")).join(":");
    format!("\"{}\" . {address} . {hardware}", host_interface(&lease.container, &lease.interface))
}
