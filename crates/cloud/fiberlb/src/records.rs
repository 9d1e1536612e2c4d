//! Records: what callers of the gRPC API have made, and what is right to make next. Pure.
use crate::allocation::{Refusal as NoAddress, Request, Supply, addresses_of, allocate};
use crate::{AddressPool, Algorithm, BackendProtocol, Certificates, Configuration, HealthCheck, Listener, Member, PathMatch, Pool, Route, RouteTable, tls};
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
    pub pool: String,
    pub health_check: Option<CheckRecord>,
    /// Certificate and key in PEM.
    pub certificate: Option<(String, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ListenerProtocol {
    Tcp,
    Http,
    Https,
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
        self.pools.insert(id.to_owned(), pool);
        Ok(())
    }

    pub fn remove_pool(&mut self, id: &str) -> Result<(), Refusal> {
        if let Some((listener, _)) = self.listeners.iter().find(|(_, listener)| listener.pool == id) {
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
            let pool_id: Arc<str> = id.as_str().into();
            let record = self.pools.get(&listener.pool);
            let pool = Pool {
                algorithm: record.and_then(|pool| Algorithm::parse(&pool.algorithm)).unwrap_or_default(),
                members: record.iter().flat_map(|pool| &pool.members).map(|(at, weight)| Member { at: *at, weight: *weight }).collect(),
                health_check: listener.health_check.as_ref().map(CheckRecord::check),
                protocol: BackendProtocol::Http1,
                mark: 0,
                timeout: ANSWER_TIMEOUT,
            };
            configuration.pools.insert(pool_id.clone(), Arc::new(pool));
            let routes = || {
                let mut routes = RouteTable::default();
                routes.add("", Route { path: PathMatch::Prefix("/".into()), pool: pool_id.clone(), limit: None });
                Arc::new(routes)
            };
            let served = match listener.protocol {
                ListenerProtocol::Tcp => Listener::Tcp { pool: pool_id.clone(), sources: Vec::new() },
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
        ListenerRecord { load_balancer: balancer.into(), protocol, port, pool: "p".into(), health_check: None, certificate: None }
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
        let pool = PoolRecord { owner: Ownership::default(), members: BTreeMap::from([("10.0.0.1:80".parse().unwrap(), 0)]), algorithm: "least-conn".into() };
        assert!(matches!(records.set_pool("p", PoolRecord { algorithm: "x".into(), ..pool.clone() }), Err(Refusal::Invalid(_))));
        records.set_pool("p", pool).unwrap();
        assert!(matches!(records.remove_pool("p"), Err(Refusal::InUse(_))));
        let configuration = records.configuration();
        assert_eq!(configuration.listeners.keys().map(ToString::to_string).collect::<Vec<_>>(), ["192.0.2.1:80"]);
        assert_eq!((configuration.pools["l-1"].algorithm, configuration.pools["l-1"].members[0].weight), (Algorithm::LeastConnections, 0));
    }
}
