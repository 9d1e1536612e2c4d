//! Settings of the DNS server.
use crate::Error;
use api_meta::ClusterName;
use ipnet::{IpNet, Ipv4Net};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// An address to answer on, UDP and TCP, and whose view clients there get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// A certain address, which no other cluster has; where there is no cluster, perhaps all of them.
    pub address: SocketAddr,
    pub cluster: ClusterName,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsSettings {
    pub listen: Vec<Listener>,
    /// The clusters' zone, e.g. `cluster.local`; empty: there is no cluster, only the zones made by the API.
    pub domain: String,
    /// Where other names are asked, in this order. None: they fail.
    pub upstreams: Vec<SocketAddr>,
    /// Domains whose names others are asked for.
    pub stubs: Vec<StubDomain>,
    /// Questions that one client may ask a second, with as many at once; 0: as many as it likes.
    pub queries_per_second: u32,
    /// Pod and Service addresses: reverse names in them are never asked upstream.
    pub cluster_cidrs: Vec<IpNet>,
    /// The addresses that mean virtual clusters, each of which is answered from its own zone at the listeners' ports.
    ///
    /// Where it is set, sockets are bound to all addresses; what comes to others than these and the listeners' is left unheard.
    pub virtual_cluster_cidr: Option<Ipv4Net>,
    /// The address pods ask, for the zone's own name server record.
    pub cluster_dns: Option<IpAddr>,
    /// How long clients may keep answers.
    pub ttl: Duration,
    /// How long clients may keep that a name does not exist.
    pub negative_ttl: Duration,
    /// How long one upstream has to answer before the next is asked.
    pub upstream_timeout: Duration,
}

/// A domain, and who knows its names, asked in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StubDomain {
    pub domain: String,
    pub servers: Vec<SocketAddr>,
}

impl StubDomain {
    /// Of `corp.example=192.0.2.1`, `corp.example=192.0.2.1:5353`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let wrong = |why: &str| Error::Settings(format!("stub domain {text:?}: {why}"));
        let (domain, server) = text.split_once('=').ok_or_else(|| wrong("it is not DOMAIN=ADDRESS[:PORT]"))?;
        let domain = domain.trim_end_matches('.').to_ascii_lowercase();
        if domain.is_empty() || !domain.split('.').all(|label| (1..=63).contains(&label.len())) || domain.len() > 253 {
            return Err(wrong("it has no domain"));
        }
        Ok(Self { domain, servers: vec![name_server(server).ok_or_else(|| wrong("it has no address"))?] })
    }

    /// Those of one domain as one.
    pub fn joined(stubs: impl IntoIterator<Item = Self>) -> Vec<Self> {
        let mut joined: Vec<Self> = Vec::new();
        for stub in stubs {
            match joined.iter_mut().find(|other| other.domain == stub.domain) {
                Some(other) => other.servers.extend(stub.servers),
                None => joined.push(stub),
            }
        }
        joined
    }
}

/// `192.0.2.1`, `192.0.2.1:5353`, `2001:db8::1`, `[2001:db8::1]:5353`.
pub fn name_server(text: &str) -> Option<SocketAddr> {
    text.parse().ok().or_else(|| Some(SocketAddr::new(text.parse().ok()?, 53)))
}

impl DnsSettings {
    pub fn new(domain: &str, listen: impl IntoIterator<Item = SocketAddr>) -> Self {
        Self {
            listen: listen.into_iter().map(|address| Listener { address, cluster: ClusterName::root() }).collect(),
            domain: domain.trim_end_matches('.').to_ascii_lowercase(),
            upstreams: Vec::new(),
            stubs: Vec::new(),
            queries_per_second: 0,
            cluster_cidrs: Vec::new(),
            virtual_cluster_cidr: None,
            cluster_dns: None,
            ttl: Duration::from_secs(30),
            negative_ttl: Duration::from_secs(5),
            upstream_timeout: Duration::from_secs(2),
        }
    }

    pub fn check(&self) -> Result<(), Error> {
        if !self.domain.is_empty()
            && let Some(reason) = api_meta::names::dns1123_subdomain(&self.domain).first()
        {
            return Err(Error::Settings(format!("domain {:?}: {reason}", self.domain)));
        }
        let asked = || self.upstreams.iter().chain(self.stubs.iter().flat_map(|stub| &stub.servers));
        let looping = asked().find(|upstream| self.listen.iter().any(|listener| listener.address == **upstream));
        match looping {
            Some(upstream) => Err(Error::Settings(format!("upstream {upstream} is this server itself"))),
            None => Ok(()),
        }
    }
}

/// The name servers of a resolv.conf, without `except`: those that lead back to us.
pub fn upstreams_of(resolv_conf: &str, except: &[IpAddr]) -> Vec<SocketAddr> {
    let servers = resolv_conf.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()?.parse::<IpAddr>().ok()).flatten()
    });
    servers.filter(|server| !except.contains(server)).map(|server| SocketAddr::new(server, 53)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstreams_come_from_resolv_conf_but_never_lead_back() {
        let text = "# nameserver 9.9.9.9\nsearch a b\nnameserver 192.0.2.1\nnameserver 10.96.0.10\nnameserver 2001:db8::1\noptions ndots:5\n";
        let upstreams = upstreams_of(text, &["10.96.0.10".parse().unwrap()]);
        assert_eq!(upstreams, ["192.0.2.1:53".parse().unwrap(), "[2001:db8::1]:53".parse().unwrap()]);
        let mut settings = DnsSettings::new("Cluster.Local.", [upstreams[0]]);
        assert_eq!(settings.domain, "cluster.local");
        settings.check().unwrap();
        settings.upstreams = upstreams;
        assert!(settings.check().is_err());
        assert!(DnsSettings::new("under_score", []).check().is_err());
    }
}
