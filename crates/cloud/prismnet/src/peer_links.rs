//! Makes the ways to other nodes' pods what they shall be: the tunnel's device, routes and neighbours, changed only where they differ.
use crate::native_engine::{switch_off_ipv6, write_sysctl};
use crate::netlink::{Hop, Netlink, Vxlan};
use crate::peers::{self, METRIC, OVERHEAD, Peer, RULE_PRIORITY, TUNNEL, TUNNEL_ONLY, Way, hardware_address};
use crate::{Error, NodeNetwork, nft};
use ipnet::Ipv4Net;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

/// Makes the ways to these nodes' pods, and takes those to others away. May be repeated at any time.
///
/// It acts in the network namespace of the calling thread and blocks for some milliseconds.
pub fn connect(network: &NodeNetwork, own: Peer, others: &[Peer]) -> Result<(), Error> {
    apply(network, own, others, &mut None)
}

/// As [`connect`]; `rules_known` are the addresses that the rules were made for.
pub(crate) fn apply(network: &NodeNetwork, own: Peer, others: &[Peer], rules_known: &mut Option<BTreeSet<Ipv4Addr>>) -> Result<(), Error> {
    let mut netlink = Netlink::open()?;
    let (router, tunnel) = (netlink.link(&network.bridge_name)?.map(|link| link.index), netlink.link(TUNNEL)?.map(|link| link.index));
    let all = netlink.all_addresses()?;
    let links: Vec<_> = all.into_iter().filter(|(index, _)| Some(*index) != router && Some(*index) != tunnel && *index != crate::netlink::LOOPBACK).collect();
    let ways = peers::plan(network.cluster_cidr, own, &links, others);
    if ways.is_empty() && tunnel.is_none() {
        return Ok(());
    }
    // The rules first: nothing comes through the tunnel that is not judged.
    let addresses: BTreeSet<Ipv4Addr> = ways.values().map(|(peer, _)| peer.address).collect();
    if rules_known.as_ref() != Some(&addresses) {
        nft::run(&peers::rules(&addresses.iter().copied().collect::<Vec<_>>()))?;
        *rules_known = Some(addresses);
    }
    let device = device(&mut netlink, network, own)?;
    neighbours(&mut netlink, device, ways.values().map(|(peer, _)| *peer))?;
    let through = |peer: &Peer| Hop::Onlink(peer.inner(), device);
    let direct = ways.iter().map(|(range, (peer, way))| match way {
        Way::Direct(link) => (*range, Hop::Gateway(peer.address, *link)),
        Way::Tunnel => (*range, through(peer)),
    });
    routes(&mut netlink, network.cluster_cidr, 0, direct.collect())?;
    routes(&mut netlink, network.cluster_cidr, TUNNEL_ONLY, ways.iter().map(|(range, (peer, _))| (*range, through(peer))).collect())?;
    netlink.ensure_mark_rule(RULE_PRIORITY, crate::isolation::CLUSTER_MASK, TUNNEL_ONLY)
}

/// Takes all of it away.
pub(crate) fn remove(network: &NodeNetwork) -> Result<(), Error> {
    let mut netlink = Netlink::open()?;
    routes(&mut netlink, network.cluster_cidr, 0, Vec::new())?;
    netlink.delete_mark_rule(RULE_PRIORITY, crate::isolation::CLUSTER_MASK, TUNNEL_ONLY)?;
    // The kernel drops the routes and neighbours with the link.
    netlink.delete_link(TUNNEL)?;
    nft::run(&format!("add table ip {0}\ndelete table ip {0}\n", peers::TABLE))
}

fn device(netlink: &mut Netlink, network: &NodeNetwork, own: Peer) -> Result<u32, Error> {
    let mtu = crate::node::mtu(network, netlink)?;
    let wanted = Vxlan { name: TUNNEL, vni: peers::VNI, port: peers::PORT, local: own.address, hardware_address: hardware_address(own.address), mtu };
    let existing = netlink.link(TUNNEL)?;
    let fits = existing.as_ref().is_some_and(|link| link.hardware_address == wanted.hardware_address);
    if existing.is_some() && !fits {
        // This machine's address has changed.
        netlink.delete_link(TUNNEL)?;
    }
    if !fits {
        netlink.create_vxlan(&wanted)?;
    }
    let link = netlink.link(TUNNEL)?.ok_or_else(|| Error::Port { port: TUNNEL.into(), reason: "it vanished while it was made".into() })?;
    if link.mtu != mtu {
        netlink.set_mtu(link.index, mtu)?;
    }
    // What comes through may belong to a node that the host cluster's pods reach directly.
    write_sysctl(&format!("net/ipv4/conf/{TUNNEL}/rp_filter"), "2")?;
    switch_off_ipv6(TUNNEL)?;
    let inner = Ipv4Net::from(own.inner());
    let addresses = netlink.addresses(link.index)?;
    for stale in addresses.iter().filter(|address| **address != inner) {
        netlink.delete_address(link.index, *stale)?;
    }
    if !addresses.contains(&inner) {
        netlink.add_address(link.index, inner)?;
    }
    if !link.up {
        netlink.set_up(link.index)?;
    }
    Ok(link.index)
}

fn neighbours(netlink: &mut Netlink, device: u32, peers: impl Iterator<Item = Peer>) -> Result<(), Error> {
    let peers: Vec<Peer> = peers.collect();
    let resolved: BTreeSet<_> = peers.iter().map(|peer| (peer.inner(), hardware_address(peer.address))).collect();
    let forwarded: BTreeSet<_> = peers.iter().map(|peer| (peer.address, hardware_address(peer.address))).collect();
    for (bridge, wanted) in [(false, resolved), (true, forwarded)] {
        let known = netlink.neighbours(device, bridge)?;
        for (address, hardware) in known.difference(&wanted) {
            netlink.delete_neighbour(device, bridge, *address, *hardware)?;
        }
        for (address, hardware) in wanted.difference(&known) {
            netlink.add_neighbour(device, bridge, *address, *hardware)?;
        }
    }
    Ok(())
}

/// The routes to other nodes' ranges in a table; 0 is the main one.
fn routes(netlink: &mut Netlink, cluster_cidr: Ipv4Net, table: u8, wanted: Vec<(Ipv4Net, Hop)>) -> Result<(), Error> {
    let known = netlink.routes_in(table)?;
    let ours = |range: &Ipv4Net, metric: u32| metric == METRIC && cluster_cidr.contains(range);
    // An onlink route is seen as one by a gateway.
    let same = |a: Hop, b: Hop| match (a, b) {
        (Hop::Gateway(x, i) | Hop::Onlink(x, i), Hop::Gateway(y, j) | Hop::Onlink(y, j)) => (x, i) == (y, j),
        (a, b) => a == b,
    };
    for (range, hop, _) in known.iter().filter(|(range, _, metric)| ours(range, *metric)) {
        if !wanted.iter().any(|(other, _)| other == range) {
            netlink.delete_route_in(table, *range, *hop, METRIC)?;
        }
    }
    for (range, hop) in wanted {
        if !known.iter().any(|(other, known, metric)| *other == range && ours(other, *metric) && same(*known, hop)) {
            netlink.add_route_in(table, range, hop, METRIC)?;
        }
    }
    Ok(())
}

/// What pods may send at once, where the uplink takes this much.
pub(crate) fn inner_mtu(uplink: u32) -> u32 {
    uplink.saturating_sub(OVERHEAD).max(576)
}
