//! Records: what callers of the gRPC API have made, and what is right to make next. Pure.
use crate::allocation::{Refusal as NoAddress, Request, Supply, addresses_of, allocate};
use crate::{
    AddressPool, Algorithm, BackendProtocol, BackendTls, Certificates, Configuration, HealthCheck, Listener, Member, PathMatch, Pool, PoolId, ProxyProtocol,
    Route, RouteTable, tls,
};
use api_cache::AddressLedger;
use cloud_api::{Ownership, Refusal};
use rustls::sign::CertifiedKey;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// So much of each kind is kept, of all callers together.
const MOST: usize = 10_000;
const MOST_MEMBERS: usize = 1_000;
const MOST_HOSTS: usize = 100;

/// Everything, as it is kept on disk.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Records {
    pub load_balancers: BTreeMap<String, LoadBalancerRecord>,
    pub listeners: BTreeMap<String, ListenerRecord>,
    pub pools: BTreeMap<String, PoolRecord>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoadBalancerRecord {
    pub name: String,
    pub description: String,
    pub address: Ipv4Addr,
    pub owner: Ownership,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ListenerRecord {
    pub load_balancer: String,
    pub protocol: ListenerProtocol,
    pub port: u16,
    /// Empty: none.
    pub pool: String,
    /// Pools by the hosts whose TLS connections are led there as they are.
    #[serde(default)]
    pub passthrough: BTreeMap<String, String>,
    pub health_check: Option<CheckRecord>,
    /// Certificate and key in PEM.
    pub certificate: Option<(String, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ListenerProtocol {
    Tcp,
    Http,
    Https,
    Tls,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckRecord {
    pub path: Option<String>,
    pub interval_seconds: u32,
    pub timeout_seconds: u32,
    pub retries: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolRecord {
    pub owner: Ownership,
    /// Address and weight.
    pub members: BTreeMap<SocketAddrV4, u32>,
    pub algorithm: String,
    #[serde(default)]
    pub proxy_protocol: Option<ProxyProtocol>,
    #[serde(default)]
    pub tls: Option<TlsRecord>,
}

/// How requests go to members over TLS: authority in PEM, and name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsRecord {
    pub authority: Option<String>,
    pub name: Option<String>,
}

impl ListenerRecord {
    /// Whether it leads connections to a pool as they are, and whether it leads requests there.
    fn uses(&self, pool: &str) -> (bool, bool) {
        let (is_default, requests) = (self.pool == pool, matches!(self.protocol, ListenerProtocol::Http | ListenerProtocol::Https));
        (is_default && !requests || self.passthrough.values().any(|other| other == pool), is_default && requests)
    }

    /// The pools it leads to.
    pub fn pools(&self) -> impl Iterator<Item = &String> {
        [&self.pool].into_iter().filter(|pool| !pool.is_empty()).chain(self.passthrough.values())
    }
}

impl PoolRecord {
    /// Refuses what a listener and this pool can't both have.
    fn fits(&self, id: &str, listener: &ListenerRecord) -> Result<(), Refusal> {
        match listener.uses(id) {
            (true, _) if self.tls.is_some() => {
                Err(Refusal::InUse(format!("pool {id:?} has backend_protocol HTTPS: connections can't be led there as they are")))
            }
            (_, true) if self.proxy_protocol.is_some() => {
                Err(Refusal::InUse(format!("pool {id:?} has a proxy_protocol: requests can't be led there, which name their client in X-Forwarded-For")))
            }
            _ => Ok(()),
        }
    }
}

impl Records {
    /// Gives a new load balancer its address.
    pub fn add_load_balancer(&mut self, id: &str, wanted: LoadBalancerWish, pool: &AddressPool) -> Result<(), Refusal> {
        if wanted.name.is_empty() || wanted.name.len() > 253 || wanted.description.len() > 4096 {
            return Err(Refusal::Invalid("a load balancer needs a name of 1 to 253 bytes and a description of no more than 4096".into()));
        }
        full(self.load_balancers.len())?;
        let address = match wanted.external_ip.as_str() {
            "" => None,
            text => Some(text.parse().map_err(|_| Refusal::Invalid(format!("external_ip {text:?} is no IPv4 address")))?),
        };
        let request = Request { holder: id.to_owned(), address, ..Request::default() };
        let next = allocate(&self.ledger(), &request, &Supply::Pool(pool.clone())).map_err(|refusal| match refusal {
            NoAddress::Exhausted | NoAddress::NoNode => Refusal::Exhausted(refusal.to_string()),
            NoAddress::NotInPool(_) => Refusal::Invalid(refusal.to_string()),
            NoAddress::InUse { address, .. } | NoAddress::PortInUse { address, .. } => Refusal::Exists(format!("address \"{address}\" is in use")),
        })?;
        let address = *addresses_of(&next, id).first().expect("what was allocated is in the ledger");
        self.load_balancers.insert(id.to_owned(), LoadBalancerRecord { name: wanted.name, description: wanted.description, address, owner: wanted.owner });
        Ok(())
    }

    pub fn remove_load_balancer(&mut self, id: &str) {
        self.load_balancers.remove(id);
        self.listeners.retain(|_, listener| listener.load_balancer != id);
    }

    pub fn add_listener(&mut self, id: &str, listener: ListenerRecord) -> Result<(), Refusal> {
        full(self.listeners.len())?;
        let clash = |other: &ListenerRecord| other.load_balancer == listener.load_balancer && other.port == listener.port;
        if listener.port == 0 {
            return Err(Refusal::Invalid("a listener needs a port of 1 to 65535".into()));
        }
        if self.listeners.values().any(clash) {
            return Err(Refusal::Exists(format!("the load balancer has a listener on port {} already", listener.port)));
        }
        check_passthrough(&listener)?;
        for id in listener.pools() {
            self.pools.get(id).map_or(Ok(()), |pool| pool.fits(id, &listener))?;
        }
        match (&listener.certificate, listener.protocol) {
            (Some((certificate, key)), ListenerProtocol::Https) => {
                tls::certified_key(certificate.as_bytes(), key.as_bytes(), &pki::provider()).map_err(|error| Refusal::Invalid(error.to_string()))?;
            }
            (None, ListenerProtocol::Https) => return Err(Refusal::Invalid("an HTTPS listener needs a certificate and its key".into())),
            (Some(_), _) => return Err(Refusal::Invalid("only an HTTPS listener has a certificate".into())),
            (None, _) => {}
        }
        self.listeners.insert(id.to_owned(), listener);
        Ok(())
    }

    pub fn set_pool(&mut self, id: &str, pool: PoolRecord) -> Result<(), Refusal> {
        if !self.pools.contains_key(id) {
            full(self.pools.len())?;
        }
        if id.is_empty() || id.len() > 253 {
            return Err(Refusal::Invalid("a pool needs an id of 1 to 253 bytes".into()));
        }
        if pool.members.len() > MOST_MEMBERS {
            return Err(Refusal::Exhausted(format!("a pool has no more than {MOST_MEMBERS} members")));
        }
        if !pool.algorithm.is_empty() && Algorithm::parse(&pool.algorithm).is_none() {
            return Err(Refusal::Invalid(format!("algorithm {:?} is none of \"round-robin\", \"least-conn\", \"ip-hash\"", pool.algorithm)));
        }
        if let Some(TlsRecord { authority, name }) = &pool.tls {
            BackendTls::new(authority.as_deref(), name.as_deref(), false).map_err(Refusal::Invalid)?;
        }
        self.listeners.values().try_for_each(|listener| pool.fits(id, listener))?;
        self.pools.insert(id.to_owned(), pool);
        Ok(())
    }

    pub fn remove_pool(&mut self, id: &str) -> Result<(), Refusal> {
        if let Some((listener, _)) = self.listeners.iter().find(|(_, listener)| listener.pools().any(|pool| pool == id)) {
            return Err(Refusal::InUse(format!("listener {listener:?} leads to pool {id:?}")));
        }
        self.pools.remove(id);
        Ok(())
    }

    fn ledger(&self) -> AddressLedger {
        let mut ledger = AddressLedger::default();
        for (id, balancer) in &self.load_balancers {
            ledger.grants.entry(balancer.address).or_default().holders.insert(id.clone(), Default::default());
        }
        ledger
    }

    pub fn addresses(&self) -> BTreeSet<Ipv4Addr> {
        self.load_balancers.values().map(|balancer| balancer.address).collect()
    }

    /// What an engine is to serve. A listener's pool is its own there, as it has its own health check.
    pub fn configuration(&self) -> Configuration {
        let mut configuration = Configuration::default();
        for (id, listener) in &self.listeners {
            let Some(balancer) = self.load_balancers.get(&listener.load_balancer) else { continue };
            let pool_id: PoolId = id.as_str().into();
            let health_check = listener.health_check.as_ref().map(CheckRecord::check);
            configuration.pools.insert(pool_id.clone(), Arc::new(self.pool(&listener.pool, health_check.clone())));
            let mut by_name = RouteTable::default();
            for (host, pool) in &listener.passthrough {
                let of_host: PoolId = format!("{id}/{host}").into();
                // What they say over TLS is for their clients alone.
                let takes_connections = health_check.clone().map(|check| HealthCheck { path: None, ..check });
                configuration.pools.insert(of_host.clone(), Arc::new(self.pool(pool, takes_connections)));
                by_name.pass_through(host, of_host);
            }
            let routes = || {
                let mut routes = by_name.clone();
                routes.add("", Route { path: PathMatch::Prefix("/".into()), pool: pool_id.clone(), limit: None });
                Arc::new(routes)
            };
            let served = match listener.protocol {
                ListenerProtocol::Tcp => Listener::Tcp { pool: pool_id.clone(), sources: Vec::new() },
                ListenerProtocol::Tls => {
                    if !listener.pool.is_empty() {
                        by_name.pass_rest_through(pool_id.clone());
                    }
                    Listener::Tls { routes: Arc::new(by_name) }
                }
                ListenerProtocol::Http => Listener::Http { routes: routes() },
                ListenerProtocol::Https => {
                    let certificates =
                        listener.certificate.as_ref().and_then(certified).map(|only| Certificates { only: Some(only), ..Certificates::default() });
                    Listener::Https { routes: routes(), certificates: Arc::new(certificates.unwrap_or_default()) }
                }
            };
            configuration.listeners.insert(SocketAddrV4::new(balancer.address, listener.port), served);
        }
        configuration
    }
}

impl Records {
    /// A pool as an engine serves it; one that is gone has no members.
    fn pool(&self, id: &str, health_check: Option<HealthCheck>) -> Pool {
        let record = self.pools.get(id);
        // It was checked when it was taken.
        let tls = record.and_then(|pool| pool.tls.as_ref()).and_then(|tls| BackendTls::new(tls.authority.as_deref(), tls.name.as_deref(), false).ok());
        Pool {
            algorithm: record.and_then(|pool| Algorithm::parse(&pool.algorithm)).unwrap_or_default(),
            members: record.iter().flat_map(|pool| &pool.members).map(|(at, weight)| Member { at: *at, weight: *weight }).collect(),
            health_check,
            protocol: BackendProtocol::Http1,
            tls,
            proxy_protocol: record.and_then(|pool| pool.proxy_protocol),
            mark: 0,
            timeout: ANSWER_TIMEOUT,
        }
    }
}

/// What a listener says of names.
fn check_passthrough(listener: &ListenerRecord) -> Result<(), Refusal> {
    let invalid = |why: String| Err(Refusal::Invalid(why));
    let is_tls = listener.protocol == ListenerProtocol::Tls;
    if !is_tls && listener.protocol != ListenerProtocol::Https && !listener.passthrough.is_empty() {
        return invalid("only HTTPS and TLS listeners pass connections through by name".into());
    }
    if is_tls && listener.passthrough.is_empty() && listener.pool.is_empty() {
        return invalid("a TLS listener needs a host that is passed through, or a default pool".into());
    }
    if is_tls && listener.health_check.as_ref().is_some_and(|check| check.path.is_some()) {
        return invalid("members behind a TLS listener can't be asked for a path".into());
    }
    if listener.passthrough.len() > MOST_HOSTS {
        return Err(Refusal::Exhausted(format!("a listener has no more than {MOST_HOSTS} hosts")));
    }
    let letters = |label: &str| label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    let is_label = |label: &str| (1..=63).contains(&label.len()) && letters(label) && !label.starts_with('-') && !label.ends_with('-');
    let is_host = |host: &str| host.len() <= 253 && host.strip_prefix("*.").unwrap_or(host).split('.').all(is_label);
    match listener.passthrough.keys().find(|host| !is_host(host)) {
        Some(host) => invalid(format!("host {host:?} is no name such as \"a.example.com\" or \"*.example.com\"")),
        None => Ok(()),
    }
}

/// What somebody who makes a load balancer says.
#[derive(Clone, Debug, Default)]
pub struct LoadBalancerWish {
    pub name: String,
    pub description: String,
    pub external_ip: String,
    pub owner: Ownership,
}

fn full(count: usize) -> Result<(), Refusal> {
    if count >= MOST { Err(Refusal::Exhausted(format!("there are {MOST} already"))) } else { Ok(()) }
}

/// It was checked when it was taken.
fn certified((certificate, key): &(String, String)) -> Option<Arc<CertifiedKey>> {
    tls::certified_key(certificate.as_bytes(), key.as_bytes(), &pki::provider()).ok().map(Arc::new)
}

impl CheckRecord {
    fn check(&self) -> HealthCheck {
        let seconds = |number: u32| Duration::from_secs(number.into());
        HealthCheck { path: self.path.clone(), interval: seconds(self.interval_seconds), timeout: seconds(self.timeout_seconds), retries: self.retries }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(name: &str, external_ip: &str) -> LoadBalancerWish {
        LoadBalancerWish { name: name.into(), external_ip: external_ip.into(), ..LoadBalancerWish::default() }
    }
    fn listener(balancer: &str, port: u16) -> ListenerRecord {
        let protocol = ListenerProtocol::Http;
        ListenerRecord { load_balancer: balancer.into(), protocol, port, pool: "p".into(), passthrough: BTreeMap::new(), health_check: None, certificate: None }
    }

    #[test]
    fn addresses_are_given_once_and_freed() {
        let pool = AddressPool::parse(&["192.0.2.1-192.0.2.2"]).unwrap();
        let mut records = Records::default();
        records.add_load_balancer("lb-1", wish("a", "192.0.2.2"), &pool).unwrap();
        records.add_load_balancer("lb-2", wish("b", ""), &pool).unwrap();
        for (external_ip, message) in [
            ("", "no address is free in the pool"),
            ("192.0.2.2", "address \"192.0.2.2\" is in use"),
            ("192.0.2.9", "address \"192.0.2.9\" is not in the pool"),
            ("x", "external_ip \"x\" is no IPv4 address"),
        ] {
            assert_eq!(records.add_load_balancer("lb-3", wish("c", external_ip), &pool).unwrap_err().to_string(), message);
        }
        records.add_listener("l-1", listener("lb-1", 80)).unwrap();
        records.remove_load_balancer("lb-1");
        assert!(records.listeners.is_empty());
        records.add_load_balancer("lb-3", wish("c", ""), &pool).unwrap();
        assert_eq!(records.load_balancers["lb-3"].address, Ipv4Addr::new(192, 0, 2, 2));
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let mut records = Records::default();
        records.add_load_balancer("lb-1", wish("a", ""), &AddressPool::parse(&["192.0.2.1"]).unwrap()).unwrap();
        records.add_listener("l-1", listener("lb-1", 80)).unwrap();
        assert!(matches!(records.add_listener("l-2", listener("lb-1", 80)), Err(Refusal::Exists(_))));
        assert!(matches!(records.add_listener("l-2", listener("lb-1", 0)), Err(Refusal::Invalid(_))));
        let https = ListenerRecord { protocol: ListenerProtocol::Https, ..listener("lb-1", 443) };
        assert!(matches!(records.add_listener("l-2", https), Err(Refusal::Invalid(_))));
        let pool = PoolRecord {
            owner: Ownership::default(),
            members: BTreeMap::from([("10.0.0.1:80".parse().unwrap(), 0)]),
            algorithm: "least-conn".into(),
            proxy_protocol: None,
            tls: None,
        };
        assert!(matches!(records.set_pool("p", PoolRecord { algorithm: "x".into(), ..pool.clone() }), Err(Refusal::Invalid(_))));
        records.set_pool("p", pool).unwrap();
        assert!(matches!(records.remove_pool("p"), Err(Refusal::InUse(_))));
        let configuration = records.configuration();
        assert_eq!(configuration.listeners.keys().map(ToString::to_string).collect::<Vec<_>>(), ["192.0.2.1:80"]);
        assert_eq!((configuration.pools["l-1"].algorithm, configuration.pools["l-1"].members[0].weight), (Algorithm::LeastConnections, 0));
    }
}
