//! Netlink requests for tunnels, neighbours, and routes of other tables than the main one.
use crate::Error;
use crate::netlink::{Hop, Netlink, failed, is, number, route, to_route_in};
use api_meta::IpFamily;
use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::link::{InfoData, InfoKind, InfoVxlan, LinkAttribute, LinkInfo, LinkMessage};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState};
use netlink_packet_route::route::{RouteFlags, RouteHeader, RouteMessage, RouteType};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

/// A tunnel to be made: it learns nothing, and its group policy field is the packets' mark.
pub struct Vxlan<'a> {
    pub name: &'a str,
    pub vni: u32,
    pub port: u16,
    pub local: Ipv4Addr,
    pub hardware_address: [u8; 6],
    pub mtu: u32,
}

/// Which of a device's permanent neighbours are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Neighbours {
    /// The hardware addresses of a family's addresses.
    Resolved(IpFamily),
    /// The machines that hardware addresses are behind.
    Forwarded,
}

impl Netlink {
    pub fn create_vxlan(&mut self, vxlan: &Vxlan<'_>) -> Result<(), Error> {
        let mut message = LinkMessage::default();
        let data = vec![InfoVxlan::Id(vxlan.vni), InfoVxlan::Local(vxlan.local), InfoVxlan::Learning(false), InfoVxlan::Port(vxlan.port), InfoVxlan::Gbp];
        message.attributes = vec![
            LinkAttribute::IfName(vxlan.name.into()),
            LinkAttribute::Mtu(vxlan.mtu),
            LinkAttribute::Address(vxlan.hardware_address.to_vec()),
            LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Vxlan), LinkInfo::Data(InfoData::Vxlan(data))]),
        ];
        self.request(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL)
            .map_err(|source| failed(format!("create tunnel \"{}\"", vxlan.name), source))?;
        Ok(())
    }

    /// The permanent neighbours of a device.
    pub fn neighbours(&mut self, device: u32, which: Neighbours) -> Result<BTreeSet<(IpAddr, [u8; 6])>, Error> {
        let mut message = NeighbourMessage::default();
        message.header.family = family(which);
        let replies = self.request(RouteNetlinkMessage::GetNeighbour(message), NLM_F_DUMP).map_err(|source| failed("list neighbours".into(), source))?;
        let found = replies.into_iter().filter_map(|reply| match reply {
            RouteNetlinkMessage::NewNeighbour(found) if found.header.ifindex == device && found.header.state == NeighbourState::Permanent => {
                let (mut address, mut hardware) = (None, None);
                for attribute in found.attributes {
                    match attribute {
                        NeighbourAttribute::Destination(NeighbourAddress::Inet(found)) => address = Some(IpAddr::V4(found)),
                        NeighbourAttribute::Destination(NeighbourAddress::Inet6(found)) => address = Some(IpAddr::V6(found)),
                        // Where a hardware address is behind comes without its family.
                        NeighbourAttribute::Destination(NeighbourAddress::Other(found)) => address = <[u8; 4]>::try_from(found).ok().map(IpAddr::from),
                        NeighbourAttribute::LinkLayerAddress(found) => hardware = <[u8; 6]>::try_from(found).ok(),
                        _ => {}
                    }
                }
                address.zip(hardware)
            }
            _ => None,
        });
        Ok(found.collect())
    }

    pub fn add_neighbour(&mut self, device: u32, which: Neighbours, address: IpAddr, hardware: [u8; 6]) -> Result<(), Error> {
        let message = neighbour(device, which, address, hardware);
        self.request(RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE | NLM_F_REPLACE)
            .map_err(|source| failed(format!("add neighbour {address}"), source))?;
        Ok(())
    }

    /// None there is fine.
    pub fn delete_neighbour(&mut self, device: u32, which: Neighbours, address: IpAddr, hardware: [u8; 6]) -> Result<(), Error> {
        match self.request(RouteNetlinkMessage::DelNeighbour(neighbour(device, which, address, hardware)), 0) {
            Err(error) if !is(&error, Errno::ENOENT) => Err(failed(format!("delete neighbour {address}"), error)),
            _ => Ok(()),
        }
    }

    /// A family's routes of a table; 0 is the main one.
    pub fn routes_in(&mut self, family: IpFamily, table: u8) -> Result<Vec<(IpNet, Hop, u32)>, Error> {
        let mut message = RouteMessage::default();
        message.header.address_family = number(family);
        let replies = self.request(RouteNetlinkMessage::GetRoute(message), NLM_F_DUMP).map_err(|source| failed("list routes".into(), source))?;
        Ok(replies.into_iter().filter_map(|reply| to_route_in(reply, real(table))).collect())
    }

    pub fn add_route_in(&mut self, table: u8, destination: IpNet, hop: Hop, metric: u32) -> Result<(), Error> {
        let mut message = route(destination, hop, None, metric);
        message.header.table = real(table);
        if matches!(hop, Hop::Onlink(..)) {
            message.header.flags |= RouteFlags::Onlink;
        }
        debug_assert_eq!(message.header.kind, RouteType::Unicast);
        self.request(RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE | NLM_F_REPLACE)
            .map_err(|source| failed(format!("add the route to {destination}"), source))?;
        Ok(())
    }

    /// None there is fine.
    pub fn delete_route_in(&mut self, table: u8, destination: IpNet, hop: Hop, metric: u32) -> Result<(), Error> {
        let mut message = route(destination, hop, None, metric);
        message.header.table = real(table);
        match self.request(RouteNetlinkMessage::DelRoute(message), 0) {
            Err(error) if !is(&error, Errno::ESRCH) => Err(failed(format!("delete the route to {destination}"), error)),
            _ => Ok(()),
        }
    }

    /// What has a mark in `mask` is routed by `table` first. Being there already is fine.
    pub fn ensure_mark_rule(&mut self, family: IpFamily, priority: u32, mask: u32, table: u8) -> Result<(), Error> {
        match self.request(RouteNetlinkMessage::NewRule(rule(family, priority, mask, table)), NLM_F_CREATE | NLM_F_EXCL) {
            Err(error) if !is(&error, Errno::EEXIST) => Err(failed(format!("add routing rule {priority}"), error)),
            _ => Ok(()),
        }
    }

    /// None there is fine.
    pub fn delete_mark_rule(&mut self, family: IpFamily, priority: u32, mask: u32, table: u8) -> Result<(), Error> {
        match self.request(RouteNetlinkMessage::DelRule(rule(family, priority, mask, table)), 0) {
            Err(error) if !is(&error, Errno::ENOENT) => Err(failed(format!("delete routing rule {priority}"), error)),
            _ => Ok(()),
        }
    }
}

fn real(table: u8) -> u8 {
    if table == 0 { RouteHeader::RT_TABLE_MAIN } else { table }
}

fn family(which: Neighbours) -> AddressFamily {
    match which {
        Neighbours::Resolved(family) => number(family),
        Neighbours::Forwarded => AddressFamily::Bridge,
    }
}

fn neighbour(device: u32, which: Neighbours, address: IpAddr, hardware: [u8; 6]) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(which);
    message.header.ifindex = device;
    message.header.state = NeighbourState::Permanent;
    if which == Neighbours::Forwarded {
        message.header.flags = NeighbourFlags::Own;
    }
    message.attributes = vec![NeighbourAttribute::Destination(address.into()), NeighbourAttribute::LinkLayerAddress(hardware.to_vec())];
    message
}

fn rule(family: IpFamily, priority: u32, mask: u32, table: u8) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = number(family);
    message.header.action = RuleAction::ToTable;
    message.header.table = table;
    // All but those without a mark there.
    message.header.flags = RuleFlags::Invert;
    message.attributes = vec![RuleAttribute::Priority(priority), RuleAttribute::FwMark(0), RuleAttribute::FwMask(mask), RuleAttribute::Table(table.into())];
    message
}
