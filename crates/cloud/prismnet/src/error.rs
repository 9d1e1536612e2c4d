//! What can go wrong while ports are made and taken away.
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("network settings are invalid: {0}")]
    Settings(String),
    #[error("{path}: {source}", path = path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("address file \"{path}\" is damaged: {reason}", path = path.display())]
    AddressFile { path: PathBuf, reason: String },
    #[error("no free address in {0}")]
    Exhausted(ipnet::Ipv4Net),
    #[error("network namespace \"{path}\" can't be entered: {source}", path = path.display())]
    Namespace { path: PathBuf, source: io::Error },
    #[error("{action}: {source}")]
    Netlink { action: String, source: io::Error },
    #[error("port \"{port}\" is not as it should be: {reason}")]
    Port { port: String, reason: String },
    #[error("router \"{bridge}\" with gateway {gateway} is not set up on this node")]
    NotReady { bridge: String, gateway: IpAddr },
    #[error("pod {uid:?}: {reason}")]
    Pod { uid: String, reason: String },
    #[error("{program} failed: {why}")]
    Program { program: &'static str, why: String },
    #[error("records in \"{path}\": {why}", path = path.display())]
    Records { path: PathBuf, why: String },
    #[error("nft failed: {0}")]
    Nft(String),
}

impl Error {
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }
}
