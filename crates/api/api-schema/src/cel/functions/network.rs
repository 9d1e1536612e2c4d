//! URLs, IP addresses and CIDRs.
use super::super::evaluate::failed;
use super::super::url::Url;
use super::super::value::{Key, Value};
use super::{Called, NO_OVERLOAD};
use ipnet::IpNet;
use std::net::IpAddr;
use std::rc::Rc;

pub(super) fn call<'a>(function: &str, arguments: &[Value<'a>]) -> Option<Called<'a>> {
    let first = arguments.first()?;
    Some(match (function, first) {
        ("url", Value::String(text)) => Url::parse(text).map_or_else(failed, |url| Ok(Value::Url(Rc::new(url)))),
        ("isURL", Value::String(text)) => Ok(Url::parse(text).is_ok().into()),
        ("getScheme", Value::Url(url)) => Ok(Value::string(url.scheme.as_str())),
        ("getHost", Value::Url(url)) => Ok(Value::string(url.host.as_str())),
        ("getHostname", Value::Url(url)) => Ok(Value::string(url.hostname())),
        ("getPort", Value::Url(url)) => Ok(Value::string(url.port())),
        ("getEscapedPath", Value::Url(url)) => Ok(Value::string(url.escaped_path())),
        ("getQuery", Value::Url(url)) => {
            let values = |values: Vec<String>| Value::List(Rc::new(values.into_iter().map(Value::string).collect()));
            Ok(Value::Map(Rc::new(url.parameters().into_iter().map(|(key, all)| (Key::String(key.into()), values(all))).collect())))
        }
        ("ip", Value::String(text)) => address(text).map_or_else(failed, |ip| Ok(Value::Ip(ip))),
        ("ip", Value::Cidr(cidr)) => Ok(Value::Ip(cidr.addr())),
        ("isIP", Value::String(text)) => Ok(address(text).is_ok().into()),
        ("ip.isCanonical", Value::String(text)) => address(text).map_or_else(failed, |ip| Ok((ip.to_string() == **text).into())),
        ("family", Value::Ip(ip)) => Ok(Value::Int(if ip.is_ipv4() { 4 } else { 6 })),
        ("isUnspecified", Value::Ip(ip)) => Ok(ip.is_unspecified().into()),
        ("isLoopback", Value::Ip(ip)) => Ok(ip.is_loopback().into()),
        ("isLinkLocalMulticast", Value::Ip(ip)) => Ok(match ip {
            IpAddr::V4(ip) => ip.octets()[..3] == [224, 0, 0],
            IpAddr::V6(ip) => ip.segments()[0] & 0xff0f == 0xff02,
        }
        .into()),
        ("isLinkLocalUnicast", Value::Ip(ip)) => Ok(link_local(ip).into()),
        ("isGlobalUnicast", Value::Ip(ip)) => {
            let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
            Ok((!ip.is_unspecified() && !ip.is_loopback() && !ip.is_multicast() && !link_local(ip) && !broadcast).into())
        }
        ("cidr", Value::String(text)) => network(text).map_or_else(failed, |cidr| Ok(Value::Cidr(cidr))),
        ("isCIDR", Value::String(text)) => Ok(network(text).is_ok().into()),
        ("masked", Value::Cidr(cidr)) => Ok(Value::Cidr(cidr.trunc())),
        ("prefixLength", Value::Cidr(cidr)) => Ok(Value::Int(cidr.prefix_len().into())),
        ("containsIP", Value::Cidr(cidr)) => match arguments.get(1) {
            Some(Value::Ip(ip)) => Ok(cidr.contains(ip).into()),
            Some(Value::String(text)) => address(text).map_or_else(failed, |ip| Ok(cidr.contains(&ip).into())),
            _ => failed(NO_OVERLOAD),
        },
        ("containsCIDR", Value::Cidr(cidr)) => match arguments.get(1) {
            Some(Value::Cidr(other)) => Ok(cidr.trunc().contains(&other.trunc()).into()),
            Some(Value::String(text)) => network(text).map_or_else(failed, |other| Ok(cidr.trunc().contains(&other.trunc()).into())),
            _ => failed(NO_OVERLOAD),
        },
        _ => return None,
    })
}

fn link_local(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

fn address(text: &str) -> Result<IpAddr, String> {
    let bad = |why: &str| format!("IP Address {text:?} parse error during conversion from string: {why}");
    if text.contains('%') {
        return Err(bad("IP address with zone value is not allowed"));
    }
    match text.parse::<IpAddr>() {
        Ok(IpAddr::V6(ip)) if ip.to_ipv4_mapped().is_some() => Err(bad("IPv4-mapped IPv6 address is not allowed")),
        Ok(ip) => Ok(ip),
        Err(_) => Err(bad(&format!("ParseAddr({text:?}): unable to parse IP"))),
    }
}

fn network(text: &str) -> Result<IpNet, String> {
    let bad = |why: String| format!("network address parse error during conversion from string: {why}");
    match text.parse::<IpNet>() {
        Ok(IpNet::V6(net)) if net.addr().to_ipv4_mapped().is_some() => Err(bad("IPv4-mapped IPv6 address is not allowed".into())),
        Ok(net) => Ok(net),
        Err(_) => Err(bad(format!("netip.ParsePrefix({text:?}): no '/'").replace("no '/'", if text.contains('/') { "bad CIDR" } else { "no '/'" }))),
    }
}
