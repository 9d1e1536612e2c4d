//! The model: listeners, routes, pools, members and health checks, whoever asked for them.
use crate::{BackendTls, HostTable, ProxyProtocol, RouteTable};
use ipnet::Ipv4Net;
use rustls::sign::CertifiedKey;
use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::Duration;

/// Who a pool is, over changes of its members: `cluster:namespace/service:port`, or an id of the gRPC API.
pub type PoolId = Arc<str>;

/// All that one engine serves.
#[derive(Clone, Debug, Default)]
pub struct Configuration {
    pub listeners: BTreeMap<SocketAddrV4, Listener>,
    pub pools: BTreeMap<PoolId, Arc<Pool>>,
}

#[derive(Clone, Debug)]
pub enum Listener {
    /// Connections, whatever they carry.
    Tcp {
        pool: PoolId,
        /// Who may connect; empty: everybody.
        sources: Vec<Ipv4Net>,
    },
    /// TLS connections, as they are, by the names that they ask for.
    Tls {
        routes: Arc<RouteTable>,
    },
    Http {
        routes: Arc<RouteTable>,
    },
    Https {
        routes: Arc<RouteTable>,
        certificates: Arc<Certificates>,
    },
}

impl PartialEq for Listener {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Tcp { pool, sources }, Self::Tcp { pool: other_pool, sources: other_sources }) => pool == other_pool && sources == other_sources,
            (Self::Tls { routes }, Self::Tls { routes: other }) | (Self::Http { routes }, Self::Http { routes: other }) => Arc::ptr_eq(routes, other),
            (Self::Https { routes, certificates }, Self::Https { routes: other, certificates: others }) => {
                Arc::ptr_eq(routes, other) && Arc::ptr_eq(certificates, others)
            }
            _ => false,
        }
    }
}

/// Certificates by the name a client asks for in its TLS hello.
#[derive(Debug, Default)]
pub struct Certificates {
    pub by_host: HostTable<Arc<CertifiedKey>>,
    /// For all other names.
    pub only: Option<Arc<CertifiedKey>>,
}

impl Certificates {
    pub fn of(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        self.by_host.get(name).or(self.only.as_ref())
    }
}

/// Backends that serve the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    pub algorithm: Algorithm,
    /// INVARIANT: sorted by address, without doubles.
    pub members: Vec<Member>,
    pub health_check: Option<HealthCheck>,
    pub protocol: BackendProtocol,
    /// `None`: requests go to members as they are read.
    pub tls: Option<BackendTls>,
    /// How members are told who connected, of connections that are led as they are.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// The mark of packets to the members: in whose cluster's name they travel. 0 is the host cluster's.
    pub mark: u32,
    /// How long a member may take to begin its answer.
    pub timeout: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Member {
    pub at: SocketAddrV4,
    /// 0: no new connections.
    pub weight: u32,
}

/// Which member a connection or request gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Algorithm {
    #[default]
    RoundRobin,
    LeastConnections,
    /// The same for all connections of a client's address, as long as the members stay.
    IpHash,
}

impl Algorithm {
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "round-robin" => Some(Self::RoundRobin),
            "least-conn" => Some(Self::LeastConnections),
            "ip-hash" => Some(Self::IpHash),
            _ => None,
        }
    }
    pub fn name(self) -> &'static str {
        match self {
            Self::RoundRobin => "round-robin",
            Self::LeastConnections => "least-conn",
            Self::IpHash => "ip-hash",
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BackendProtocol {
    #[default]
    Http1,
    /// HTTP/2 without TLS, begun without asking: gRPC.
    Http2,
}

/// How members are asked whether they live. One that fails `retries` times in a row gets nothing until it answers again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// Asked for with GET, and right when the answer's code is 200 to 399. `None`: that the port takes a connection is enough.
    pub path: Option<String>,
    pub interval: Duration,
    pub timeout: Duration,
    pub retries: u32,
}
