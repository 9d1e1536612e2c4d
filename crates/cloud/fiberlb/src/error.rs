//! What can go wrong while load balancers are served.
use std::io;
use std::net::SocketAddrV4;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the address pool {text:?} is neither a CIDR nor a range such as 192.0.2.10-192.0.2.20: {why}")]
    Pool { text: String, why: String },
    #[error("can't listen on {address}: {source}")]
    Listen { address: SocketAddrV4, source: io::Error },
    #[error("the threads that serve connections can't be started: {0}")]
    Workers(io::Error),
    #[error("{program} could not be run: {source}")]
    Run { program: &'static str, source: io::Error },
    #[error("{program} refused: {message}")]
    Refused { program: &'static str, message: String },
    #[error("the records in {path:?} can't be used: {why}")]
    Records { path: PathBuf, why: String },
    #[error("the certificate can't be used: {0}")]
    Certificate(String),
}
