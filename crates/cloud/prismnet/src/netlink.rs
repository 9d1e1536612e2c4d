//! Netlink: a blocking route-netlink socket, bound to the network namespace it was opened in.
//!
//! Blocking, because a CNI call is a handful of requests in a row: a runtime would cost more than they do.
pub use crate::netlink_peers::{Neighbours, Vxlan};
use crate::{Error, NetworkNamespace};
use api_meta::IpFamily;
use ipnet::IpNet;
use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::errno::Errno;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Loopback has this index in every network namespace.
pub const LOOPBACK: u32 = 1;

/// The kernel's own table, of addresses that are this machine's (RT_TABLE_LOCAL).
const LOCAL_TABLE: u8 = 255;

pub struct Netlink {
    socket: Socket,
    sequence: u32,
}

/// What we look at of a network device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    pub mtu: u32,
    pub up: bool,
    pub hardware_address: [u8; 6],
    /// The other end's index, in the other end's namespace.
    pub peer: Option<u32>,
}

/// Where a route leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hop {
    /// Straight out of a device.
    Device(u32),
    /// To a gateway behind a device.
    Gateway(IpAddr, u32),
    /// To a gateway that is taken to be behind a device, whatever its address.
    Onlink(IpAddr, u32),
    /// Nowhere: the sender is told at once.
    Unreachable,
    /// The destination is this machine itself: a whole range of addresses is its own.
    Local,
}

/// A veth pair to be made, the peer in another namespace.
pub struct VethPair<'a> {
    pub name: &'a str,
    pub alias: &'a str,
    /// `None`: any.
    pub hardware_address: Option<[u8; 6]>,
    pub mtu: u32,
    pub peer_name: &'a str,
    pub peer_hardware_address: [u8; 6],
    pub peer_namespace: &'a NetworkNamespace,
}

impl Netlink {
    /// Opens a socket in the calling thread's namespace; it stays there wherever it is used from.
    pub fn open() -> Result<Self, Error> {
        let open = || -> io::Result<Socket> {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            Ok(socket)
        };
        open().map(|socket| Self { socket, sequence: 0 }).map_err(|source| Error::Netlink { action: "open a netlink socket".into(), source })
    }

    pub fn link(&mut self, name: &str) -> Result<Option<Link>, Error> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.into()));
        match self.request(RouteNetlinkMessage::GetLink(message), 0) {
            Ok(replies) => Ok(replies.into_iter().find_map(to_link)),
            Err(error) if is(&error, Errno::ENODEV) => Ok(None),
            Err(source) => Err(failed(format!("look up device \"{name}\""), source)),
        }
    }

    pub fn link_by_index(&mut self, index: u32) -> Result<Option<Link>, Error> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        match self.request(RouteNetlinkMessage::GetLink(message), 0) {
            Ok(replies) => Ok(replies.into_iter().find_map(to_link)),
            Err(error) if is(&error, Errno::ENODEV) => Ok(None),
            Err(source) => Err(failed(format!("look up device {index}"), source)),
        }
    }

    /// Makes a bridge unless there is a device of that name.
    pub fn create_bridge(&mut self, name: &str, mtu: u32) -> Result<(), Error> {
        let mut message = LinkMessage::default();
        message.attributes = vec![LinkAttribute::IfName(name.into()), LinkAttribute::Mtu(mtu), LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)])];
        match self.request(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL) {
            Err(error) if !is(&error, Errno::EEXIST) => Err(failed(format!("create bridge \"{name}\""), error)),
            _ => Ok(()),
        }
    }

    /// Makes a pair of devices at once, each in its own namespace: no moment leaves half of it behind.
    pub fn create_veth(&mut self, pair: &VethPair<'_>) -> Result<(), Error> {
        let mut peer = LinkMessage::default();
        peer.attributes = vec![
            LinkAttribute::IfName(pair.peer_name.into()),
            LinkAttribute::Mtu(pair.mtu),
            LinkAttribute::Address(pair.peer_hardware_address.to_vec()),
            LinkAttribute::NetNsFd(pair.peer_namespace.descriptor()),
        ];
        let mut message = LinkMessage::default();
        message.attributes = vec![
            LinkAttribute::IfName(pair.name.into()),
            LinkAttribute::Mtu(pair.mtu),
            LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Veth), LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer)))]),
        ];
        message.attributes.extend(pair.hardware_address.map(|address| LinkAttribute::Address(address.to_vec())));
        let action = || format!("create devices \"{}\" and \"{}\"", pair.name, pair.peer_name);
        self.request(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL).map_err(|source| failed(action(), source))?;
        // The kernel takes an alias only of a device that exists.
        let mut alias = LinkMessage::default();
        alias.attributes = vec![LinkAttribute::IfName(pair.name.into()), LinkAttribute::IfAlias(pair.alias.into())];
        self.request(RouteNetlinkMessage::SetLink(alias), 0).map_err(|source| failed(action(), source))?;
        Ok(())
    }

    pub fn set_up(&mut self, index: u32) -> Result<(), Error> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        self.request(RouteNetlinkMessage::SetLink(message), 0).map_err(|source| failed(format!("set device {index} up"), source))?;
        Ok(())
    }

    pub fn set_mtu(&mut self, index: u32, mtu: u32) -> Result<(), Error> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes.push(LinkAttribute::Mtu(mtu));
        self.request(RouteNetlinkMessage::SetLink(message), 0).map_err(|source| failed(format!("set the MTU of device {index}"), source))?;
        Ok(())
    }

    /// Deletes a device, and with it its peer, addresses and routes. None of that name is fine.
    pub fn delete_link(&mut self, name: &str) -> Result<(), Error> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.into()));
        match self.request(RouteNetlinkMessage::DelLink(message), 0) {
            Err(error) if !is(&error, Errno::ENODEV) => Err(failed(format!("delete device \"{name}\""), error)),
            _ => Ok(()),
        }
    }

    pub fn add_address(&mut self, index: u32, address: IpNet) -> Result<(), Error> {
        let mut message = address_message(index, address);
        message.header.scope = AddressScope::Universe;
        if let IpNet::V6(_) = address {
            // It is nobody else's, so nobody is asked: it can be used at once.
            message.header.flags = AddressHeaderFlags::Nodad;
        }
        message.attributes.push(AddressAttribute::Address(address.addr()));
        self.request(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_REPLACE)
            .map_err(|source| failed(format!("add address {address}"), source))?;
        Ok(())
    }

    pub fn delete_address(&mut self, index: u32, address: IpNet) -> Result<(), Error> {
        let message = address_message(index, address);
        self.request(RouteNetlinkMessage::DelAddress(message), 0).map_err(|source| failed(format!("delete address {address}"), source))?;
        Ok(())
    }

    /// The addresses of a device, but for those of a link alone.
    pub fn addresses(&mut self, index: u32, family: IpFamily) -> Result<Vec<IpNet>, Error> {
        let all = self.all_addresses(family)?.into_iter();
        Ok(all.filter(|(device, _)| *device == index).map(|(_, address)| address).collect())
    }

    /// Adds a route to the main table, in place of one to the same destination with the same metric.
    pub fn add_route(&mut self, destination: IpNet, hop: Hop, source_address: Option<IpAddr>, metric: u32) -> Result<(), Error> {
        let message = route(destination, hop, source_address, metric);
        let action = || format!("add the route to {destination}");
        self.request(RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE | NLM_F_REPLACE).map_err(|source| failed(action(), source))?;
        Ok(())
    }

    /// Deletes a route; none there is fine.
    pub fn delete_route(&mut self, destination: IpNet, hop: Hop, metric: u32) -> Result<(), Error> {
        match self.request(RouteNetlinkMessage::DelRoute(route(destination, hop, None, metric)), 0) {
            Err(error) if !is(&error, Errno::ESRCH) => Err(failed(format!("delete the route to {destination}"), error)),
            _ => Ok(()),
        }
    }

    /// Destination and hop of a family's routes in the main table, with their metrics.
    pub fn routes(&mut self, family: IpFamily) -> Result<Vec<(IpNet, Hop, u32)>, Error> {
        self.routes_in(family, 0)
    }

    /// A family's addresses of this machine with the networks they are in, by device; but for those of a link alone.
    pub fn all_addresses(&mut self, family: IpFamily) -> Result<Vec<(u32, IpNet)>, Error> {
        let mut message = AddressMessage::default();
        message.header.family = number(family);
        let replies = self.request(RouteNetlinkMessage::GetAddress(message), NLM_F_DUMP).map_err(|source| failed("list addresses".into(), source))?;
        let found = replies.into_iter().filter_map(|reply| match reply {
            RouteNetlinkMessage::NewAddress(found) => {
                // IPv6 tells but one address where a device has no other end.
                let local = found.attributes.iter().find_map(|attribute| match attribute {
                    AddressAttribute::Local(address) => Some(*address),
                    _ => None,
                });
                let address = local.or_else(|| {
                    found.attributes.iter().find_map(|attribute| match attribute {
                        AddressAttribute::Address(address @ IpAddr::V6(_)) => Some(*address),
                        _ => None,
                    })
                })?;
                let of_link = matches!(address, IpAddr::V6(address) if address.is_unicast_link_local());
                (!of_link).then_some((found.header.index, IpNet::new(address, found.header.prefix_len).ok()?))
            }
            _ => None,
        });
        Ok(found.collect())
    }

    pub(crate) fn request(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.sequence += 1;
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags | if flags & NLM_F_DUMP == NLM_F_DUMP { 0 } else { NLM_F_ACK };
        header.sequence_number = self.sequence;
        let mut packet = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
        packet.finalize();
        let mut bytes = vec![0; packet.buffer_len()];
        packet.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        let mut replies = Vec::new();
        loop {
            let (bytes, _) = self.socket.recv_from_full()?;
            let mut rest = &bytes[..];
            while rest.len() >= 16 {
                let reply = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest).map_err(io::Error::other)?;
                let length = (reply.header.length as usize).next_multiple_of(4).min(rest.len());
                rest = &rest[length.max(16)..];
                if reply.header.sequence_number != self.sequence {
                    continue;
                }
                match reply.payload {
                    NetlinkPayload::InnerMessage(inner) => replies.push(inner),
                    NetlinkPayload::Done(_) => return Ok(replies),
                    // An error of code zero is the acknowledgement.
                    NetlinkPayload::Error(error) if error.code.is_none() => return Ok(replies),
                    NetlinkPayload::Error(error) => return Err(error.to_io()),
                    _ => {}
                }
            }
        }
    }
}

pub(crate) fn route(destination: IpNet, hop: Hop, source_address: Option<IpAddr>, metric: u32) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = number(IpFamily::of(destination.addr()));
    message.header.destination_prefix_length = destination.prefix_len();
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Static;
    message.header.kind = RouteType::Unicast;
    message.header.scope = RouteScope::Universe;
    message.attributes.push(RouteAttribute::Destination(destination.network().into()));
    match hop {
        Hop::Device(index) => {
            message.header.scope = RouteScope::Link;
            message.attributes.push(RouteAttribute::Oif(index));
        }
        Hop::Gateway(gateway, index) | Hop::Onlink(gateway, index) => {
            message.attributes.push(RouteAttribute::Gateway(gateway.into()));
            message.attributes.push(RouteAttribute::Oif(index));
        }
        Hop::Unreachable => message.header.kind = RouteType::Unreachable,
        Hop::Local => {
            message.header.table = LOCAL_TABLE;
            message.header.kind = RouteType::Local;
            message.header.scope = RouteScope::Host;
            message.attributes.push(RouteAttribute::Oif(LOOPBACK));
        }
    }
    message.attributes.extend(source_address.map(|address| RouteAttribute::PrefSource(address.into())));
    if metric != 0 {
        message.attributes.push(RouteAttribute::Priority(metric));
    }
    message
}

fn to_link(message: RouteNetlinkMessage) -> Option<Link> {
    let RouteNetlinkMessage::NewLink(message) = message else { return None };
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        mtu: 0,
        up: message.header.flags.contains(LinkFlags::Up),
        hardware_address: [0; 6],
        peer: None,
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::Address(address) => link.hardware_address = address.try_into().unwrap_or_default(),
            LinkAttribute::Link(peer) => link.peer = Some(peer),
            _ => {}
        }
    }
    Some(link)
}

pub(crate) fn to_route_in(message: RouteNetlinkMessage, table: u8) -> Option<(IpNet, Hop, u32)> {
    let RouteNetlinkMessage::NewRoute(message) = message else { return None };
    if message.header.table != table {
        return None;
    }
    let any = if message.header.address_family == AddressFamily::Inet6 { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { IpAddr::V4(Ipv4Addr::UNSPECIFIED) };
    let (mut destination, mut gateway, mut device, mut metric) = (any, None, None, 0);
    for attribute in message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => destination = plain(&address)?,
            RouteAttribute::Gateway(address) => gateway = plain(&address),
            RouteAttribute::Oif(index) => device = Some(index),
            RouteAttribute::Priority(priority) => metric = priority,
            _ => {}
        }
    }
    let hop = match (message.header.kind, gateway, device) {
        (RouteType::Unreachable, ..) => Hop::Unreachable,
        (_, Some(gateway), Some(device)) => Hop::Gateway(gateway, device),
        (_, None, Some(device)) => Hop::Device(device),
        _ => return None,
    };
    Some((IpNet::new(destination, message.header.destination_prefix_length).ok()?, hop, metric))
}

/// The kernel's number of a family.
pub(crate) fn number(family: IpFamily) -> AddressFamily {
    match family {
        IpFamily::V4 => AddressFamily::Inet,
        IpFamily::V6 => AddressFamily::Inet6,
    }
}

fn address_message(index: u32, address: IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = number(IpFamily::of(address.addr()));
    message.header.prefix_len = address.prefix_len();
    message.header.index = index;
    message.attributes = vec![AddressAttribute::Local(address.addr())];
    message
}

fn plain(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}

pub(crate) fn is(error: &io::Error, code: Errno) -> bool {
    error.raw_os_error() == Some(code as i32)
}

pub(crate) fn failed(action: String, source: io::Error) -> Error {
    Error::Netlink { action, source }
}
