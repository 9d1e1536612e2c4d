//! Makes the ways to other nodes' pods what they shall be: the tunnel's device, routes and neighbours, changed only where they differ.
use crate::native_engine::{only_given_ipv6, switch_off_ipv6, write_sysctl};
use crate::netlink::{Hop, Neighbours, Netlink, Vxlan};
use crate::peers::{self, METRIC, OVERHEAD, Peer, RULE_PRIORITY, TUNNEL, TUNNEL_ONLY, Way, hardware_address};
use crate::{Error, NodeNetwork, nft};
use api_meta::IpFamily;
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Makes the ways to these nodes' pods, and takes those to others away. May be repeated at any time.
///
/// It acts in the network namespace of the calling thread and blocks for some milliseconds.
pub fn connect(network: &NodeNetwork, own: Peer, others: &[Peer]) -> Result<(), Error> {
    apply(network, own, others, &mut None)
}

/// As [`connect`]; `rules_known` are the addresses that the rules were made for.
pub(crate) fn apply(network: &NodeNetwork, own: Peer, others: &[Peer], rules_known: &mut Option<BTreeSet<IpAddr>>) -> Result<(), Error> {
    let mut netlink = Netlink::open()?;
    let (router, tunnel) = (netlink.link(&network.bridge_name)?.map(|link| link.index), netlink.link(TUNNEL)?.map(|link| link.index));
    let families = families(network);
    let mut links = Vec::new();
    for family in families {
        let all = netlink.all_addresses(*family)?.into_iter();
        links.extend(all.filter(|(index, _)| Some(*index) != router && Some(*index) != tunnel && *index != crate::netlink::LOOPBACK));
    }
    let cluster_cidrs: Vec<IpNet> = network.ranges().map(|ranges| ranges.cluster_cidr).collect();
    let ways = peers::plan(&cluster_cidrs, own, &links, others);
    if ways.is_empty() && tunnel.is_none() {
        return Ok(());
    }
    // The rules first: nothing comes through the tunnel that is not judged.
    let peers: BTreeSet<Peer> = ways.values().map(|(peer, _)| *peer).collect();
    let addresses: BTreeSet<IpAddr> = peers.iter().flat_map(Peer::ranges).filter_map(|(_, address)| address).collect();
    if rules_known.as_ref() != Some(&addresses) {
        nft::run(&peers::rules(families, &addresses))?;
        *rules_known = Some(addresses);
    }
    let device = device(&mut netlink, network, own)?;
    neighbours(&mut netlink, device, families, &peers)?;
    for ranges in network.ranges() {
        let (family, cluster_cidr) = (ranges.family, ranges.cluster_cidr);
        let through = |peer: &Peer| peer.inner(family).map(|inner| Hop::Onlink(inner, device));
        let ways = || ways.iter().filter(|(range, _)| IpFamily::of(range.addr()) == family);
        let direct = ways().filter_map(|(range, (peer, way))| match way {
            Way::Direct(address, link) => Some((*range, Hop::Gateway(*address, *link))),
            Way::Tunnel => Some((*range, through(peer)?)),
        });
        routes(&mut netlink, cluster_cidr, 0, direct.collect())?;
        let tunnelled = ways().filter_map(|(range, (peer, _))| Some((*range, through(peer)?)));
        routes(&mut netlink, cluster_cidr, TUNNEL_ONLY, tunnelled.collect())?;
        netlink.ensure_mark_rule(family, RULE_PRIORITY, crate::isolation::CLUSTER_MASK, TUNNEL_ONLY)?;
    }
    Ok(())
}

fn families(network: &NodeNetwork) -> &'static [IpFamily] {
    IpFamily::all(network.second.is_some())
}

/// Takes all of it away.
pub(crate) fn remove(network: &NodeNetwork) -> Result<(), Error> {
    let mut netlink = Netlink::open()?;
    for ranges in network.ranges() {
        routes(&mut netlink, ranges.cluster_cidr, 0, Vec::new())?;
        netlink.delete_mark_rule(ranges.family, RULE_PRIORITY, crate::isolation::CLUSTER_MASK, TUNNEL_ONLY)?;
    }
    // The kernel drops the routes and neighbours with the link.
    netlink.delete_link(TUNNEL)?;
    let tables = families(network).iter().map(|family| format!("add table {0} {1}\ndelete table {0} {1}\n", family.header(), peers::TABLE));
    nft::run(&tables.collect::<String>())
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
    if network.second.is_some() {
        only_given_ipv6(TUNNEL)?;
    } else {
        switch_off_ipv6(TUNNEL)?;
    }
    for family in families(network) {
        let Some(inner) = own.inner(*family).map(IpNet::from) else { continue };
        let addresses = netlink.addresses(link.index, *family)?;
        for stale in addresses.iter().filter(|address| **address != inner) {
            netlink.delete_address(link.index, *stale)?;
        }
        if !addresses.contains(&inner) {
            netlink.add_address(link.index, inner)?;
        }
    }
    if !link.up {
        netlink.set_up(link.index)?;
    }
    Ok(link.index)
}

fn neighbours(netlink: &mut Netlink, device: u32, families: &[IpFamily], peers: &BTreeSet<Peer>) -> Result<(), Error> {
    let resolved = families.iter().map(|family| {
        let inner = peers.iter().filter_map(|peer| Some((peer.inner(*family)?, hardware_address(peer.address))));
        (Neighbours::Resolved(*family), inner.collect())
    });
    let forwarded: BTreeSet<_> = peers.iter().map(|peer| (IpAddr::V4(peer.address), hardware_address(peer.address))).collect();
    for (which, wanted) in resolved.chain([(Neighbours::Forwarded, forwarded)]) {
        let known = netlink.neighbours(device, which)?;
        for (address, hardware) in known.difference(&wanted) {
            netlink.delete_neighbour(device, which, *address, *hardware)?;
        }
        for (address, hardware) in wanted.difference(&known) {
            netlink.add_neighbour(device, which, *address, *hardware)?;
        }
    }
    Ok(())
}

/// The routes to other nodes' ranges of a family in a table; 0 is the main one.
fn routes(netlink: &mut Netlink, cluster_cidr: IpNet, table: u8, wanted: Vec<(IpNet, Hop)>) -> Result<(), Error> {
    let known = netlink.routes_in(IpFamily::of(cluster_cidr.addr()), table)?;
    let ours = |range: &IpNet, metric: u32| metric == METRIC && cluster_cidr.contains(range);
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
