//! BackendTls: how members are spoken to over TLS: whom they have to be, and what is asked for.
use rustls_pki_types::ServerName;
use std::io;
use std::net::{IpAddr, SocketAddrV4};
use std::sync::{Arc, OnceLock};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A pool's TLS. Two that say the same are equal.
#[derive(Clone)]
pub struct BackendTls {
    /// PEM. `None`: whoever answers is believed, and only who listens on the way is kept out.
    authority: Option<String>,
    /// The name that is asked for, and that a certificate has to have. `None`: the member's address.
    name: Option<String>,
    http2: bool,
    /// Made for the first connection, so that later ones take up its session.
    connector: OnceLock<TlsConnector>,
}

impl std::fmt::Debug for BackendTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BackendTls({:?}, verified: {})", self.name, self.authority.is_some())
    }
}

impl PartialEq for BackendTls {
    fn eq(&self, other: &Self) -> bool {
        (&self.authority, &self.name, self.http2) == (&other.authority, &other.name, other.http2)
    }
}

impl Eq for BackendTls {}

impl BackendTls {
    /// # Errors
    /// What is wrong with the authority or the name.
    pub fn new(authority: Option<&str>, name: Option<&str>, http2: bool) -> Result<Self, String> {
        let tls = Self { authority: authority.map(str::to_owned), name: name.map(str::to_owned), http2, connector: OnceLock::new() };
        if let Some(name) = name {
            ServerName::try_from(name).map_err(|_| format!("{name:?} is no name of a server"))?;
        }
        tls.config().map_err(|error| format!("the authority can't be used: {error}"))?;
        Ok(tls)
    }

    fn config(&self) -> Result<rustls::ClientConfig, pki::PkiError> {
        let mut config = match &self.authority {
            Some(pem) => pki::client_config(pem, None)?,
            None => pki::client_config_unverified()?,
        };
        config.alpn_protocols = vec![if self.http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
        Ok(config)
    }

    /// Speaks TLS to the member that a connection was made to.
    pub async fn connect(&self, at: SocketAddrV4, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let connector = match self.connector.get() {
            Some(connector) => connector,
            None => {
                let config = self.config().map_err(io::Error::other)?;
                self.connector.get_or_init(|| TlsConnector::from(Arc::new(config)))
            }
        };
        let name = match &self.name {
            Some(name) => ServerName::try_from(name.clone()).map_err(io::Error::other)?,
            None => ServerName::IpAddress(IpAddr::V4(*at.ip()).into()),
        };
        connector.connect(name, stream).await
    }
}
