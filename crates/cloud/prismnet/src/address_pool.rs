//! AddressPool: which address is leased to whom. Pure; `AddressFile` keeps it on disk.
use crate::Error;
use crate::kubernetes::PodIdentity;
use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Who holds an address: one interface of one container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lease {
    pub container: String,
    pub interface: String,
    /// Path of the network namespace.
    pub namespace: String,
    /// Device and inode of that path when it was leased: a path that names another namespace now is no sign of life.
    pub identity: (u64, u64),
    /// The number of the pod's cluster; 0 is the host cluster.
    #[serde(default, skip_serializing_if = "is_host_cluster")]
    pub cluster: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodIdentity>,
    /// Policies hold its pod back until its address is known.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub held: bool,
}

fn is_host_cluster(number: &u16) -> bool {
    *number == 0
}

/// The addresses of one port: one of each family that the network has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortAddresses {
    pub first: Ipv4Addr,
    pub second: Option<Ipv6Addr>,
}

impl PortAddresses {
    pub fn iter(self) -> impl Iterator<Item = IpAddr> {
        std::iter::once(IpAddr::V4(self.first)).chain(self.second.map(IpAddr::V6))
    }
}

/// A node's leases.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AddressPool {
    /// The boot these leases are of; they don't outlive it.
    pub boot: String,
    /// The address given out last: the next search starts after it, so that a freed address rests as long as possible.
    pub last: Option<Ipv4Addr>,
    pub leases: BTreeMap<Ipv4Addr, Lease>,
    /// The second addresses of the leases that have one.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub second: BTreeMap<Ipv4Addr, Ipv6Addr>,
}

impl AddressPool {
    /// Leases an address of `range`. INVARIANT: one container interface holds at most one address, so asking again gives the same one.
    ///
    /// The network's own, the gateway's (first) and the broadcast address are never given out.
    pub fn lease(&mut self, range: Ipv4Net, lease: Lease) -> Result<Ipv4Addr, Error> {
        if let Some(held) = self.address_of(&lease.container, &lease.interface) {
            if range.contains(&held) {
                self.leases.insert(held, lease);
                return Ok(held);
            }
            // The node got another range since.
            self.end(held);
        }
        let address = self.free(range).ok_or(Error::Exhausted(range))?;
        self.last = Some(address);
        self.leases.insert(address, lease);
        Ok(address)
    }

    /// Gives a lease of `range` an address of the second range besides: the one at the same place in it.
    pub fn pair(&mut self, address: Ipv4Addr, range: Ipv4Net, second: Ipv6Net) -> PortAddresses {
        let held = self.second.remove(&address).filter(|held| second.contains(held));
        let place = u32::from(address) & u32::from(range.hostmask());
        let first = u128::from(second.network()) | u128::from(place);
        // Only leases of another range, which the node had before, can be in the way.
        let free = || (first..).map(Ipv6Addr::from).find(|candidate| !self.second.values().any(|other| other == candidate));
        if let Some(held) = held.or_else(free) {
            self.second.insert(address, held);
        }
        self.addresses(address)
    }

    /// All addresses of the lease at this one.
    pub fn addresses(&self, address: Ipv4Addr) -> PortAddresses {
        PortAddresses { first: address, second: self.second.get(&address).copied() }
    }

    /// Every port's.
    pub fn ports(&self) -> impl Iterator<Item = (PortAddresses, &Lease)> {
        self.leases.iter().map(|(address, lease)| (self.addresses(*address), lease))
    }

    pub fn address_of(&self, container: &str, interface: &str) -> Option<Ipv4Addr> {
        self.leases.iter().find(|(_, lease)| lease.container == container && lease.interface == interface).map(|(address, _)| *address)
    }

    /// Gives an address back; `None` when there was none.
    pub fn release(&mut self, container: &str, interface: &str) -> Option<Ipv4Addr> {
        let address = self.address_of(container, interface)?;
        self.end(address);
        Some(address)
    }

    /// Whether a virtual cluster has a pod here, beside the one at `except`.
    pub fn has_other(&self, cluster: u16, except: Ipv4Addr) -> bool {
        self.leases.iter().any(|(address, lease)| lease.cluster == cluster && *address != except)
    }

    /// Ends the leases `keep` denies, and returns them.
    pub fn retain(&mut self, keep: impl Fn(&Lease) -> bool) -> Vec<(PortAddresses, Lease)> {
        let ended: Vec<_> = self.leases.extract_if(.., |_, lease| !keep(lease)).collect();
        ended.into_iter().map(|(first, lease)| (PortAddresses { first, second: self.second.remove(&first) }, lease)).collect()
    }

    fn end(&mut self, address: Ipv4Addr) {
        self.leases.remove(&address);
        self.second.remove(&address);
    }

    fn free(&self, range: Ipv4Net) -> Option<Ipv4Addr> {
        let (first, last) = (u32::from(range.network()).checked_add(2)?, u32::from(range.broadcast()).checked_sub(1)?);
        let start = self.last.map(u32::from).filter(|last_given| (first..last).contains(last_given)).map_or(first, |last_given| last_given + 1);
        (start..=last).chain(first..start).map(Ipv4Addr::from).find(|address| !self.leases.contains_key(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(container: &str) -> Lease {
        Lease {
            container: container.into(),
            interface: "eth0".into(),
            namespace: format!("/run/netns/{container}"),
            identity: (1, 2),
            cluster: 0,
            pod: None,
            held: false,
        }
    }

    fn range() -> Ipv4Net {
        "10.0.0.0/29".parse().unwrap()
    }

    #[test]
    fn addresses_leave_out_network_gateway_and_broadcast() {
        let mut pool = AddressPool::default();
        let given: Vec<u8> = (0..5).map(|n| pool.lease(range(), lease(&n.to_string())).unwrap().octets()[3]).collect();
        assert_eq!(given, [2, 3, 4, 5, 6]);
        assert!(matches!(pool.lease(range(), lease("one too many")), Err(Error::Exhausted(_))));
    }

    #[test]
    fn asking_again_gives_the_same_address() {
        let mut pool = AddressPool::default();
        let first = pool.lease(range(), lease("a")).unwrap();
        assert_eq!(pool.lease(range(), lease("a")).unwrap(), first);
        assert_eq!(pool.leases.len(), 1);
    }

    #[test]
    fn a_freed_address_rests_before_it_is_given_again() {
        let mut pool = AddressPool::default();
        let first = pool.lease(range(), lease("a")).unwrap();
        assert_eq!(pool.release("a", "eth0"), Some(first));
        assert_eq!(pool.release("a", "eth0"), None);
        assert_ne!(pool.lease(range(), lease("b")).unwrap(), first);
        for name in ["c", "d", "e", "f"] {
            pool.lease(range(), lease(name)).unwrap();
        }
        assert_eq!(pool.address_of("f", "eth0"), Some(first));
    }

    #[test]
    fn second_addresses_come_and_go_with_the_first() {
        let (mut pool, second) = (AddressPool::default(), "fd42:0:0:3::/64".parse().unwrap());
        let first = pool.lease(range(), lease("a")).unwrap();
        let pair = pool.pair(first, range(), second);
        assert_eq!(pair.iter().map(|address| address.to_string()).collect::<Vec<_>>(), ["10.0.0.2", "fd42:0:0:3::2"]);
        assert_eq!(pool.pair(first, range(), second), pair, "asking again");
        let other = pool.lease("10.0.1.0/29".parse().unwrap(), lease("b")).unwrap();
        assert_eq!(pool.pair(other, "10.0.1.0/29".parse().unwrap(), second).second.unwrap().to_string(), "fd42:0:0:3::3", "one address is one port's");
        let kept: AddressPool = serde_json::from_value(serde_json::to_value(&pool).unwrap()).unwrap();
        assert_eq!(kept, pool);
        let ended = pool.retain(|lease| lease.container == "b");
        assert_eq!(ended[0].0, pair);
        pool.release("b", "eth0");
        assert!(pool.second.is_empty());
        let old = r#"{"boot":"x","last":null,"leases":{}}"#;
        assert_eq!(serde_json::from_str::<AddressPool>(old).unwrap(), AddressPool { boot: "x".into(), ..AddressPool::default() }, "a file of before");
        assert!(!serde_json::to_string(&AddressPool::default()).unwrap().contains("second"), "one family alone is written as ever");
    }

    #[test]
    fn leases_of_dead_namespaces_end() {
        let mut pool = AddressPool::default();
        pool.lease(range(), lease("dead")).unwrap();
        pool.lease(range(), lease("alive")).unwrap();
        let ended = pool.retain(|lease| lease.container == "alive");
        assert_eq!(ended.len(), 1);
        assert_eq!(ended[0].1.container, "dead");
        assert!(pool.address_of("alive", "eth0").is_some());
    }
}
