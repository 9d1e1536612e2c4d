//! Sources: the rules that let each port send with its own addresses alone, as nft writes them. Pure.
//!
//! Strict reverse path filtering keeps a pod from another's IP address already; here the hardware address counts too, so
//! that whatever looks at either is told the truth.
use crate::node::TABLE;
use crate::peers::TUNNEL;
use crate::plan::{hardware_address, host_interface};
use crate::{AddressPool, Lease};
use std::fmt::Write;
use std::net::Ipv4Addr;

/// Ports with the addresses they may send from.
const PORTS: &str = "ports";

/// The part of the node's table that is about this, with the ports there are.
pub(crate) fn chain(bridge: &str, pool: &AddressPool) -> String {
    let ports: Vec<String> = pool.leases.iter().map(|(address, lease)| port(*address, lease)).collect();
    let elements = if ports.is_empty() { String::new() } else { format!("\n  elements = {{ {} }}", ports.join(", ")) };
    format!(
        " set {PORTS} {{
  type ifname . ipv4_addr . ether_addr{elements}
 }}
 chain sources {{
  type filter hook prerouting priority raw; policy accept;
  iifname \"prism*\" iifname != {{ \"{bridge}\", \"{TUNNEL}\" }} iifname . ip saddr . ether saddr != @{PORTS} drop
 }}
"
    )
}

/// Lets a port send. May be repeated.
pub(crate) fn admit(address: Ipv4Addr, lease: &Lease) -> String {
    format!("add element ip {TABLE} {PORTS} {{ {} }}\n", port(address, lease))
}

/// Takes that back. May be repeated: only what is there can be deleted.
pub(crate) fn withdraw(address: Ipv4Addr, lease: &Lease) -> String {
    let mut text = admit(address, lease);
    writeln!(text, "delete element ip {TABLE} {PORTS} {{ {} }}", port(address, lease)).expect("a string takes all");
    text
}

fn port(address: Ipv4Addr, lease: &Lease) -> String {
    let hardware = hardware_address(address).map(|byte| format!("{byte:02x}")).join(":");
    format!("\"{}\" . {address} . {hardware}", host_interface(&lease.container, &lease.interface))
}
