//! LeafRequest: what a server's or client's certificate shall say.
use crate::Subject;
use std::net::IpAddr;
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeafRequest {
    /// The user, or the server's name.
    pub common_name: String,
    /// The groups.
    pub organizations: Vec<String>,
    pub dns_names: Vec<String>,
    pub ip_addresses: Vec<IpAddr>,
    /// May serve TLS.
    pub server: bool,
    /// May be a TLS client.
    pub client: bool,
    pub validity: Duration,
}

impl LeafRequest {
    pub(crate) fn subject(&self) -> Subject {
        Subject { common_name: self.common_name.clone(), organizations: self.organizations.clone() }
    }
}

/// A certificate and its key, both PEM.
#[derive(Clone)]
pub struct Issued {
    pub certificate_pem: String,
    pub key_pem: String,
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issued").field("certificate_pem", &self.certificate_pem).finish_non_exhaustive()
    }
}
