//! Record: one name and what it says.
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// A record. Names are lower case, absolute, without the last dot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Record {
    pub name: Arc<str>,
    pub data: RecordData,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordData {
    A(Ipv4Addr),
    Aaaa(Ipv6Addr),
    Cname(Arc<str>),
    Ptr(Arc<str>),
    Srv { priority: u16, weight: u16, port: u16, target: Arc<str> },
    Mx { preference: u16, exchange: Arc<str> },
    Txt(Arc<str>),
    Ns(Arc<str>),
}

impl RecordData {
    pub fn address(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::A(address),
            IpAddr::V6(address) => Self::Aaaa(address),
        }
    }

    /// Its type's name.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::A(_) => "A",
            Self::Aaaa(_) => "AAAA",
            Self::Cname(_) => "CNAME",
            Self::Ptr(_) => "PTR",
            Self::Srv { .. } => "SRV",
            Self::Mx { .. } => "MX",
            Self::Txt(_) => "TXT",
            Self::Ns(_) => "NS",
        }
    }
}

/// As in a zone file; names without the last dot.
impl fmt::Display for RecordData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::A(address) => write!(f, "{address}"),
            Self::Aaaa(address) => write!(f, "{address}"),
            Self::Cname(name) | Self::Ptr(name) | Self::Ns(name) => write!(f, "{name}"),
            Self::Srv { priority, weight, port, target } => write!(f, "{priority} {weight} {port} {target}"),
            Self::Mx { preference, exchange } => write!(f, "{preference} {exchange}"),
            Self::Txt(text) => write!(f, "{text:?}"),
        }
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.name, self.data.kind(), self.data)
    }
}

/// `5.1.244.10.in-addr.arpa` of 10.244.1.5.
pub fn reverse_name(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(address) => {
            let nibbles = address.octets().into_iter().rev().flat_map(|byte| [byte & 15, byte >> 4]);
            nibbles.map(|nibble| format!("{nibble:x}.")).collect::<String>() + "ip6.arpa"
        }
    }
}

/// The address a full reverse name is of.
pub fn address_of_reverse(name: &str) -> Option<IpAddr> {
    if let Some(labels) = name.strip_suffix(".in-addr.arpa") {
        let octets: Vec<u8> = labels.split('.').map(str::parse).collect::<Result<_, _>>().ok()?;
        let [d, c, b, a] = octets[..] else { return None };
        return Some(IpAddr::from([a, b, c, d]));
    }
    let labels = name.strip_suffix(".ip6.arpa")?;
    let nibbles: Vec<u8> = labels.split('.').map(|label| if label.len() == 1 { u8::from_str_radix(label, 16).ok() } else { None }).collect::<Option<_>>()?;
    let bytes: Vec<u8> = nibbles.chunks(2).rev().map(|pair| pair.iter().rev().fold(0, |byte, nibble| byte << 4 | nibble)).collect();
    <[u8; 16]>::try_from(bytes).ok().filter(|_| nibbles.len() == 32).map(IpAddr::from)
}

/// `10-244-1-5`, `fd00--1`: an address as one label.
pub fn dashed(address: IpAddr) -> String {
    address.to_string().replace(['.', ':'], "-")
}

/// The address a dashed label is of.
pub fn address_of_dashed(label: &str) -> Option<IpAddr> {
    let v4 = || label.replace('-', ".").parse::<Ipv4Addr>().ok().map(IpAddr::V4);
    let v6 = || label.replace('-', ":").parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    v4().or_else(v6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_their_names() {
        for text in ["10.244.1.5", "fd00::1", "2001:db8:1:2:3:4:5:6"] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(address_of_reverse(&reverse_name(address)), Some(address));
            assert_eq!(address_of_dashed(&dashed(address)), Some(address));
        }
        assert_eq!(reverse_name("10.244.1.5".parse().unwrap()), "5.1.244.10.in-addr.arpa");
        for wrong in ["1.244.10.in-addr.arpa", "x.in-addr.arpa", "1.2.3.4", "1.ip6.arpa"] {
            assert_eq!(address_of_reverse(wrong), None, "{wrong}");
        }
        assert_eq!(address_of_dashed("web-0"), None);
    }
}
