//! What can go wrong while names are served.
use std::io;
use std::net::SocketAddr;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("DNS settings are invalid: {0}")]
    Settings(String),
    #[error("can't listen on {address}: {source}")]
    Listen { address: SocketAddr, source: io::Error },
}
