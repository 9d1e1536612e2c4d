//! Which address a holder gets: the ledger's next state, or why there is none. Pure.
use crate::AddressPool;
use api_cache::{AddressGrant, AddressHolding, AddressLedger};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

/// What a holder asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// The key it is to be in the ledger by.
    pub holder: String,
    /// `TCP/80`, ...
    pub ports: BTreeSet<String>,
    /// Those of them that a process serves.
    pub proxied: BTreeSet<String>,
    /// This address and no other.
    pub address: Option<Ipv4Addr>,
    /// Others who name the same key may have the address too. It starts with the holder's cluster, so that clusters share nothing.
    pub sharing_key: Option<String>,
}

/// Where addresses come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Supply {
    /// Addresses for this alone; each is one holder's, unless holders agree to share.
    Pool(AddressPool),
    /// The nodes' own addresses, shared by everybody port by port. `taken` are ports that something else on a node has.
    Nodes { addresses: BTreeSet<Ipv4Addr>, taken: BTreeMap<String, String> },
}

/// Why there is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("no address is free in the pool")]
    Exhausted,
    #[error("address \"{0}\" is not in the pool")]
    NotInPool(Ipv4Addr),
    #[error("address \"{address}\" is in use by {by}")]
    InUse { address: Ipv4Addr, by: String },
    #[error("port {port} of address \"{address}\" is in use by {by}")]
    PortInUse { address: Ipv4Addr, port: String, by: String },
    #[error("no node is ready")]
    NoNode,
}

impl Refusal {
    /// As a condition's reason.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Exhausted => "AddressPoolExhausted",
            Self::NotInPool(_) => "AddressNotInPool",
            Self::InUse { .. } => "AddressInUse",
            Self::PortInUse { .. } => "PortInUse",
            Self::NoNode => "NoNode",
        }
    }
}

/// The addresses of a holder.
pub fn addresses_of(ledger: &AddressLedger, holder: &str) -> BTreeSet<Ipv4Addr> {
    ledger.grants.iter().filter(|(_, grant)| grant.holders.contains_key(holder)).map(|(address, _)| *address).collect()
}

/// The ledger without a holder.
pub fn release(ledger: &AddressLedger, holder: &str) -> AddressLedger {
    let mut next = ledger.clone();
    for grant in next.grants.values_mut() {
        grant.holders.remove(holder);
    }
    next.grants.retain(|_, grant| !grant.holders.is_empty());
    next
}

/// The ledger in which the holder has what it asks for. A holder keeps the address it has as long as that fits what it asks.
pub fn allocate(ledger: &AddressLedger, request: &Request, supply: &Supply) -> Result<AddressLedger, Refusal> {
    let had = addresses_of(ledger, &request.holder);
    let mut next = release(ledger, &request.holder);
    let chosen = match supply {
        Supply::Pool(pool) => BTreeSet::from([from_pool(&next, request, pool, &had)?]),
        Supply::Nodes { addresses, taken } => from_nodes(&next, request, addresses, taken)?,
    };
    let shared = matches!(supply, Supply::Pool(_)).then(|| request.sharing_key.clone()).flatten();
    let holding = AddressHolding { ports: request.ports.clone(), proxied: request.proxied.clone() };
    for address in chosen {
        let grant = next.grants.entry(address).or_insert_with(|| AddressGrant { sharing_key: shared.clone(), holders: BTreeMap::new() });
        grant.holders.insert(request.holder.clone(), holding.clone());
    }
    Ok(next)
}

fn from_pool(ledger: &AddressLedger, request: &Request, pool: &AddressPool, had: &BTreeSet<Ipv4Addr>) -> Result<Ipv4Addr, Refusal> {
    if let Some(address) = request.address {
        if !pool.contains(address) {
            return Err(Refusal::NotInPool(address));
        }
        return joins(ledger, request, address).map(|()| address);
    }
    let fits = |address: &Ipv4Addr| pool.contains(*address) && joins(ledger, request, *address).is_ok();
    if let Some(kept) = had.iter().find(|address| fits(address)) {
        return Ok(*kept);
    }
    // Those who share are put together before a new address is taken.
    if request.sharing_key.is_some()
        && let Some((address, _)) = ledger.grants.iter().find(|(address, grant)| grant.sharing_key == request.sharing_key && fits(address))
    {
        return Ok(*address);
    }
    pool.addresses().find(|address| !ledger.grants.contains_key(address)).ok_or(Refusal::Exhausted)
}

/// Whether the holder may have the address beside those who have it.
fn joins(ledger: &AddressLedger, request: &Request, address: Ipv4Addr) -> Result<(), Refusal> {
    let Some(grant) = ledger.grants.get(&address) else { return Ok(()) };
    if grant.sharing_key.is_none() || grant.sharing_key != request.sharing_key {
        return Err(Refusal::InUse { address, by: somebody(grant.holders.keys().next(), request) });
    }
    ports_free(grant, request, address)
}

fn ports_free(grant: &AddressGrant, request: &Request, address: Ipv4Addr) -> Result<(), Refusal> {
    for (holder, holding) in &grant.holders {
        if let Some(port) = holding.ports.intersection(&request.ports).next() {
            return Err(Refusal::PortInUse { address, port: port.clone(), by: somebody(Some(holder), request) });
        }
    }
    Ok(())
}

fn from_nodes(
    ledger: &AddressLedger,
    request: &Request,
    addresses: &BTreeSet<Ipv4Addr>,
    taken: &BTreeMap<String, String>,
) -> Result<BTreeSet<Ipv4Addr>, Refusal> {
    let first = *addresses.first().ok_or(Refusal::NoNode)?;
    if let Some(address) = request.address.filter(|address| !addresses.contains(address)) {
        return Err(Refusal::NotInPool(address));
    }
    if let Some((port, by)) = request.ports.iter().find_map(|port| taken.get_key_value(port)) {
        return Err(Refusal::PortInUse { address: first, port: port.clone(), by: by.clone() });
    }
    for address in addresses {
        if let Some(grant) = ledger.grants.get(address) {
            ports_free(grant, request, *address)?;
        }
    }
    Ok(addresses.clone())
}

/// A holder as another may know it: those of other clusters have no name.
fn somebody(holder: Option<&String>, request: &Request) -> String {
    let cluster = |holder: &str| holder.split_once(':').map(|(cluster, _)| cluster.to_owned());
    match holder {
        Some(holder) if cluster(holder).is_some() && cluster(holder) == cluster(&request.holder) => {
            format!("Service \"{}\"", holder.split_once(':').map_or(holder.as_str(), |(_, place)| place))
        }
        Some(holder) if cluster(holder).is_none() => "Ingresses".into(),
        _ => "another".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(holder: &str, ports: &[&str]) -> Request {
        Request { holder: holder.into(), ports: ports.iter().map(|port| (*port).to_owned()).collect(), ..Request::default() }
    }
    fn pool(text: &str) -> Supply {
        Supply::Pool(AddressPool::parse(&[text]).unwrap())
    }
    fn show(ledger: &AddressLedger) -> String {
        let holders = |grant: &AddressGrant| grant.holders.keys().cloned().collect::<Vec<_>>().join(",");
        ledger.grants.iter().map(|(address, grant)| format!("{}={}", address.octets()[3], holders(grant))).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_first_free_address_is_given_until_there_is_none_and_again_when_it_is_freed() {
        let supply = pool("192.0.2.1-192.0.2.2");
        let mut ledger = AddressLedger::default();
        for name in ["root:d/a", "root:d/b"] {
            ledger = allocate(&ledger, &request(name, &["TCP/80"]), &supply).unwrap();
        }
        assert_eq!(show(&ledger), "1=root:d/a 2=root:d/b");
        assert_eq!(allocate(&ledger, &request("root:d/c", &["TCP/80"]), &supply), Err(Refusal::Exhausted));
        assert_eq!(allocate(&ledger, &request("root:d/b", &["TCP/80"]), &supply).unwrap(), ledger, "asked again, nothing moves");
        let freed = release(&ledger, "root:d/a");
        assert_eq!(show(&allocate(&freed, &request("root:d/c", &["TCP/81"]), &supply).unwrap()), "1=root:d/c 2=root:d/b");
    }

    #[test]
    fn an_address_asked_for_is_given_or_refused() {
        let supply = pool("192.0.2.1-192.0.2.9");
        let asks = |holder: &str, last: u8| Request { address: Some([192, 0, 2, last].into()), ..request(holder, &["TCP/80"]) };
        let ledger = allocate(&AddressLedger::default(), &asks("root:d/a", 5), &supply).unwrap();
        assert_eq!(show(&ledger), "5=root:d/a");
        assert_eq!(allocate(&ledger, &asks("root:d/b", 5), &supply).unwrap_err().to_string(), "address \"192.0.2.5\" is in use by Service \"d/a\"");
        assert_eq!(allocate(&ledger, &asks("c.t:d/b", 5), &supply).unwrap_err().to_string(), "address \"192.0.2.5\" is in use by another");
        assert_eq!(allocate(&ledger, &asks("root:d/b", 99), &supply), Err(Refusal::NotInPool([192, 0, 2, 99].into())));
        assert_eq!(show(&allocate(&ledger, &asks("root:d/a", 6), &supply).unwrap()), "6=root:d/a", "it moves when another is asked for");
    }

    #[test]
    fn those_of_one_key_share_by_port() {
        let supply = pool("192.0.2.1-192.0.2.2");
        let shares = |holder: &str, key: &str, port: &str| Request { sharing_key: Some(key.into()), ..request(holder, &[port]) };
        let ledger = allocate(&AddressLedger::default(), &shares("root:d/a", "root/k", "TCP/80"), &supply).unwrap();
        let ledger = allocate(&ledger, &shares("root:d/b", "root/k", "UDP/80"), &supply).unwrap();
        assert_eq!(show(&ledger), "1=root:d/a,root:d/b");
        let clash = allocate(&ledger, &shares("root:d/c", "root/k", "TCP/80"), &supply).unwrap();
        assert_eq!(show(&clash), "1=root:d/a,root:d/b 2=root:d/c", "a port that is taken needs another address");
        assert_eq!(allocate(&clash, &shares("root:d/e", "root/other", "TCP/1"), &supply), Err(Refusal::Exhausted));
    }

    #[test]
    fn nodes_addresses_are_shared_port_by_port() {
        let supply = Supply::Nodes { addresses: BTreeSet::from([[192, 0, 2, 2].into()]), taken: BTreeMap::from([("TCP/22".into(), "a process".into())]) };
        let ledger = allocate(&AddressLedger::default(), &request("root:d/a", &["TCP/80"]), &supply).unwrap();
        let ledger = allocate(&ledger, &request("c.t:d/a", &["TCP/81"]), &supply).unwrap();
        assert_eq!(show(&ledger), "2=c.t:d/a,root:d/a");
        let refused = |port: &str| allocate(&ledger, &request("root:d/x", &[port]), &supply).unwrap_err().to_string();
        assert_eq!(refused("TCP/80"), "port TCP/80 of address \"192.0.2.2\" is in use by Service \"d/a\"");
        assert_eq!(refused("TCP/22"), "port TCP/22 of address \"192.0.2.2\" is in use by a process");
        let none = Supply::Nodes { addresses: BTreeSet::new(), taken: BTreeMap::new() };
        assert_eq!(allocate(&ledger, &request("root:d/x", &["TCP/1"]), &none), Err(Refusal::NoNode));
    }
}
