//! Connection tracking: ends UDP flows that the kernel still leads to backends their Service no longer has.
//!
//! A flow is translated once, by its first packet; without this a client that never pauses would never reach another
//! backend. Spoken directly (ctnetlink, linux/netfilter/nfnetlink_conntrack.h): no `conntrack` program is needed.
use crate::error::Error;
use crate::plan::Frontend;
use crate::tables::PUBLIC;
use api_meta::IpFamily;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr as At};

const CONNTRACK_SUBSYSTEM: u16 = 1;
const GET: u16 = CONNTRACK_SUBSYSTEM << 8 | 1;
const DELETE: u16 = CONNTRACK_SUBSYSTEM << 8 | 2;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const REQUEST: u16 = 1;
const ACKNOWLEDGE: u16 = 4;
const DUMP: u16 = 0x300;

const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const MARK: u16 = 8;
const ZONE: u16 = 18;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;
const IP_V4_SOURCE: u16 = 1;
const IP_V4_DESTINATION: u16 = 2;
const IP_V6_SOURCE: u16 = 3;
const IP_V6_DESTINATION: u16 = 4;
const PROTOCOL_NUMBER: u16 = 1;
const PROTOCOL_SOURCE_PORT: u16 = 2;
const PROTOCOL_DESTINATION_PORT: u16 = 3;
/// The kernel marks attributes that hold others with the upper bits.
const KIND_MASK: u16 = 0x3fff;
const UDP: u8 = 17;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// Netlink's header and netfilter's.
const HEADER: usize = 16 + 4;

/// One direction of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tuple {
    source: At,
    destination: At,
    protocol: u8,
}

/// Ends UDP flows of a family to these frontends whose answers come from none of the backends named. Returns how many.
///
/// Acts in the network namespace of the calling thread; needs CAP_NET_ADMIN.
pub fn end_stale(family: IpFamily, frontends: &BTreeMap<Frontend, BTreeSet<At>>) -> Result<usize, Error> {
    let end = || -> io::Result<usize> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        let mut stale = Vec::new();
        exchange(&socket, family, GET, DUMP, &[], |attributes| {
            if let Some(key) = stale_key(attributes, frontends) {
                stale.push(key);
            }
        })?;
        let mut ended = 0;
        for key in stale {
            match exchange(&socket, family, DELETE, ACKNOWLEDGE, &key, |_| {}) {
                Ok(()) => ended += 1,
                // It ended by itself meanwhile.
                Err(error) if error.raw_os_error() == Some(2) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(ended)
    };
    end().map_err(Error::Conntrack)
}

/// The attributes that name a flow to the kernel, if it is stale.
fn stale_key(attributes: &[u8], frontends: &BTreeMap<Frontend, BTreeSet<At>>) -> Option<Vec<u8>> {
    let original = attribute(attributes, TUPLE_ORIGINAL)?;
    let (there, back) = (tuple(original.body)?, tuple(attribute(attributes, TUPLE_REPLY)?.body)?);
    let mark = attribute(attributes, MARK).and_then(|mark| mark.body.try_into().ok()).map_or(0, u32::from_be_bytes);
    if there.protocol != UDP || !is_stale(mark, there, back, frontends) {
        return None;
    }
    let mut key = original.whole.to_vec();
    key.resize(key.len().next_multiple_of(4), 0);
    if let Some(zone) = attribute(attributes, ZONE) {
        key.extend_from_slice(zone.whole);
        key.resize(key.len().next_multiple_of(4), 0);
    }
    Some(key)
}

/// `mark` is the flow's, which tells whose Services its client sees.
fn is_stale(mark: u32, there: Tuple, back: Tuple, frontends: &BTreeMap<Frontend, BTreeSet<At>>) -> bool {
    let protocol = crate::plan::Protocol::Udp;
    let port = there.destination.port();
    let cluster = if mark & PUBLIC == 0 { (mark >> 16) as u16 } else { 0 };
    let asked = Frontend { cluster, address: Some(there.destination.ip()), protocol, port };
    let by_address = frontends.get(&asked);
    // A node port is a port of everybody's: only flows that were translated are surely ours.
    let translated = there.destination != back.source;
    // A flow from before there were rules bears no cluster; that of a virtual cluster's client was not translated.
    let by_any = || {
        frontends
            .iter()
            .find(|(frontend, _)| Frontend { cluster: 0, ..**frontend } == asked)
            .map(|(_, backends)| backends)
            .filter(|_| mark == 0 && there.destination == back.source)
    };
    let by_port = || frontends.get(&Frontend { cluster: 0, address: None, protocol, port }).filter(|_| translated);
    by_address.or_else(by_port).or_else(by_any).is_some_and(|backends| !backends.contains(&back.source))
}

/// Sends a request and shows each answer's attributes.
fn exchange(socket: &Socket, family: IpFamily, kind: u16, flags: u16, attributes: &[u8], mut show: impl FnMut(&[u8])) -> io::Result<()> {
    let family = match family {
        IpFamily::V4 => AF_INET,
        IpFamily::V6 => AF_INET6,
    };
    let mut request = Vec::with_capacity(HEADER + attributes.len());
    request.extend_from_slice(&((HEADER + attributes.len()) as u32).to_ne_bytes());
    request.extend_from_slice(&kind.to_ne_bytes());
    request.extend_from_slice(&(REQUEST | flags).to_ne_bytes());
    request.extend_from_slice(&[0; 8]);
    request.extend_from_slice(&[family, 0, 0, 0]);
    request.extend_from_slice(attributes);
    socket.send(&request, 0)?;
    loop {
        let (bytes, _) = socket.recv_from_full()?;
        let mut rest = &bytes[..];
        while rest.len() >= 16 {
            let length = (u32::from_ne_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize).clamp(16, rest.len());
            let answer = &rest[..length];
            match u16::from_ne_bytes([rest[4], rest[5]]) {
                DONE => return Ok(()),
                ERROR if answer.len() >= 20 => {
                    return match i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]) {
                        0 => Ok(()),
                        code => Err(io::Error::from_raw_os_error(-code)),
                    };
                }
                _ if answer.len() >= HEADER => show(&answer[HEADER..]),
                _ => {}
            }
            rest = &rest[length.next_multiple_of(4).min(rest.len())..];
        }
    }
}

struct Attribute<'a> {
    whole: &'a [u8],
    body: &'a [u8],
}

fn attribute(mut bytes: &[u8], wanted: u16) -> Option<Attribute<'_>> {
    while bytes.len() >= 4 {
        let length = usize::from(u16::from_ne_bytes([bytes[0], bytes[1]]));
        if length < 4 || length > bytes.len() {
            return None;
        }
        if u16::from_ne_bytes([bytes[2], bytes[3]]) & KIND_MASK == wanted {
            return Some(Attribute { whole: &bytes[..length], body: &bytes[4..length] });
        }
        bytes = &bytes[length.next_multiple_of(4).min(bytes.len())..];
    }
    None
}

fn tuple(bytes: &[u8]) -> Option<Tuple> {
    let (ip, protocol) = (attribute(bytes, TUPLE_IP)?.body, attribute(bytes, TUPLE_PROTOCOL)?.body);
    let v4 = |kind| Some(IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(attribute(ip, kind)?.body).ok()?)));
    let v6 = |kind| Some(IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(attribute(ip, kind)?.body).ok()?)));
    let port = |kind| Some(u16::from_be_bytes(attribute(protocol, kind)?.body.try_into().ok()?));
    Some(Tuple {
        source: At::new(v4(IP_V4_SOURCE).or_else(|| v6(IP_V6_SOURCE))?, port(PROTOCOL_SOURCE_PORT)?),
        destination: At::new(v4(IP_V4_DESTINATION).or_else(|| v6(IP_V6_DESTINATION))?, port(PROTOCOL_DESTINATION_PORT)?),
        protocol: *attribute(protocol, PROTOCOL_NUMBER)?.body.first()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Protocol;

    #[test]
    fn flows_to_lost_backends_are_stale() {
        let at = |text: &str| text.parse::<At>().unwrap();
        let frontends = BTreeMap::from([
            (Frontend { cluster: 0, address: Some(IpAddr::from([10, 96, 0, 10])), protocol: Protocol::Udp, port: 53 }, BTreeSet::from([at("10.244.0.5:53")])),
            (Frontend { cluster: 0, address: None, protocol: Protocol::Udp, port: 30053 }, BTreeSet::from([at("10.244.0.5:53")])),
        ]);
        let (there, back) = (
            Tuple { source: at("10.244.0.9:4000"), destination: at("10.96.0.10:53"), protocol: UDP },
            Tuple { source: at("10.244.0.6:53"), destination: at("10.244.0.9:4000"), protocol: UDP },
        );
        assert!(!is_stale(7 << 16, there, back, &frontends), "another cluster's Service of the same address has backends of its own");
        assert!(is_stale(7 << 16 | PUBLIC, Tuple { destination: at("10.9.0.1:30053"), ..there }, back, &frontends));
        let of_seven = BTreeMap::from([(
            Frontend { cluster: 7, address: Some(there.destination.ip()), protocol: Protocol::Udp, port: 53 },
            BTreeSet::from([at("10.244.0.6:53")]),
        )]);
        assert!(
            !is_stale(0, there, back, &of_seven) && is_stale(0, there, Tuple { source: there.destination, ..back }, &of_seven),
            "a flow from before the rules"
        );
        for (destination, answers_from, stale) in [
            ("10.96.0.10:53", "10.244.0.5:53", false),
            ("10.96.0.10:53", "10.244.0.6:53", true),
            ("10.96.0.10:53", "10.96.0.10:53", true),
            ("10.96.0.10:54", "10.244.0.6:53", false),
            ("10.9.0.1:30053", "10.244.0.6:53", true),
            ("8.8.8.8:30053", "8.8.8.8:30053", false),
        ] {
            let there = Tuple { source: at("10.244.0.9:4000"), destination: at(destination), protocol: UDP };
            let back = Tuple { source: at(answers_from), destination: there.source, protocol: UDP };
            assert_eq!(is_stale(0, there, back, &frontends), stale, "{destination} answered by {answers_from}");
        }
    }
}
