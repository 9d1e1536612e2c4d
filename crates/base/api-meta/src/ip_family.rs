//! IpFamily: the words in which IPv4 and IPv6 differ, so that what holds for both is written once.
use std::net::IpAddr;

/// A family of addresses. IPv4 is first: where there is but one, it is that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IpFamily {
    V4,
    V6,
}

impl IpFamily {
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// The families of a network that has IPv4, and IPv6 too if it is `dual`.
    pub fn all(dual: bool) -> &'static [Self] {
        if dual { &Self::BOTH } else { &[Self::V4] }
    }

    /// As the API writes it (`Service.spec.ipFamilies`, `EndpointSlice.addressType`).
    pub fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    /// As nftables calls the tables and the packet header of this family.
    pub fn header(self) -> &'static str {
        match self {
            Self::V4 => "ip",
            Self::V6 => "ip6",
        }
    }

    /// As nftables calls the type of its addresses.
    pub fn address_type(self) -> &'static str {
        match self {
            Self::V4 => "ipv4_addr",
            Self::V6 => "ipv6_addr",
        }
    }

    pub fn multicast(self) -> &'static str {
        match self {
            Self::V4 => "224.0.0.0/4",
            Self::V6 => "ff00::/8",
        }
    }
}
