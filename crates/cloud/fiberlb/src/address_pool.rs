//! AddressPool: the external addresses there are to give, as CIDRs and ranges. Pure.
use crate::Error;
use ipnet::Ipv4Net;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// Addresses from first to last of each range, both included. No two ranges overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressPool {
    ranges: Vec<(u32, u32)>,
}

impl AddressPool {
    /// Of `192.168.100.0/24` and `192.168.100.10-192.168.100.20`, several parted by commas. Of a CIDR of more than two
    /// addresses, the network's own and the broadcast address are left out.
    pub fn parse(texts: &[impl AsRef<str>]) -> Result<Self, Error> {
        let mut ranges = Vec::new();
        for text in texts.iter().flat_map(|text| text.as_ref().split(',')).map(str::trim).filter(|text| !text.is_empty()) {
            ranges.push(range(text).map_err(|why| Error::Pool { text: text.to_owned(), why })?);
        }
        ranges.sort_unstable();
        let mut pool = Self::default();
        for (first, last) in ranges {
            match pool.ranges.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = (*end).max(last),
                _ => pool.ranges.push((first, last)),
            }
        }
        Ok(pool)
    }

    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        let address = u32::from(address);
        self.ranges.iter().any(|(first, last)| (*first..=*last).contains(&address))
    }
    /// All of them, in order.
    pub fn addresses(&self) -> impl Iterator<Item = Ipv4Addr> {
        self.ranges.iter().flat_map(|(first, last)| *first..=*last).map(Ipv4Addr::from)
    }
    /// The same ranges as CIDRs, to compare with other networks.
    pub fn networks(&self) -> Vec<Ipv4Net> {
        self.ranges.iter().flat_map(|(first, last)| ipnet::Ipv4Subnets::new((*first).into(), (*last).into(), 0)).collect()
    }
}

fn range(text: &str) -> Result<(u32, u32), String> {
    let address = |text: &str| Ipv4Addr::from_str(text.trim()).map_err(|_| format!("{text:?} is no IPv4 address"));
    if let Some((first, last)) = text.split_once('-') {
        let (first, last) = (u32::from(address(first)?), u32::from(address(last)?));
        return if first > last { Err("it ends before it begins".into()) } else { usable(first, last) };
    }
    if !text.contains('/') {
        let only = u32::from(address(text)?);
        return usable(only, only);
    }
    let network = Ipv4Net::from_str(text).map_err(|_| "it is no IPv4 network".to_owned())?;
    if network.prefix_len() < 8 {
        return Err("it is larger than a /8".into());
    }
    let (first, last) = (u32::from(network.network()), u32::from(network.broadcast()));
    if network.prefix_len() < 31 { usable(first + 1, last - 1) } else { usable(first, last) }
}

fn usable(first: u32, last: u32) -> Result<(u32, u32), String> {
    for address in [first, last].map(Ipv4Addr::from) {
        if address.is_unspecified() || address.is_loopback() || address.is_multicast() || address.is_broadcast() || address.is_link_local() {
            return Err(format!("{address} is no address others can connect to"));
        }
    }
    Ok((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_are_networks_ranges_and_single_addresses() {
        let all = |texts: &[&str]| AddressPool::parse(texts).map(|pool| pool.addresses().map(|address| address.to_string()).collect::<Vec<_>>().join(" "));
        for (texts, expected) in [
            (&["192.0.2.8/30"][..], "192.0.2.9 192.0.2.10"),
            (&["192.0.2.8/31"], "192.0.2.8 192.0.2.9"),
            (&["192.0.2.8/32"], "192.0.2.8"),
            (&["192.0.2.30-192.0.2.32"], "192.0.2.30 192.0.2.31 192.0.2.32"),
            (&["192.0.2.32, 192.0.2.30-192.0.2.31", "192.0.2.31-192.0.2.33"], "192.0.2.30 192.0.2.31 192.0.2.32 192.0.2.33"),
            (&[], ""),
        ] {
            assert_eq!(all(texts).unwrap(), expected, "{texts:?}");
        }
        for wrong in ["192.0.2.0/33", "x", "192.0.2.9-192.0.2.8", "127.0.0.0/8", "224.0.0.1", "10.0.0.0/4", "2001:db8::/64", "192.0.2.1-"] {
            assert!(all(&[wrong]).is_err(), "{wrong}");
        }
        let pool = AddressPool::parse(&["192.0.2.8/30"]).unwrap();
        assert!(pool.contains("192.0.2.9".parse().unwrap()) && !pool.contains("192.0.2.8".parse().unwrap()));
    }
}
