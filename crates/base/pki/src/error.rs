//! PkiError: what can go wrong with certificates and keys.
use std::io;
use std::path::PathBuf;
use thiserror::Error;

#[derive(Debug, Error)]
pub enum PkiError {
    #[error("{action} `{path}`")]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("`{path}` holds no usable {what}: {why}")]
    File { path: PathBuf, what: &'static str, why: String },
    #[error("certificate authority `{path}` has a certificate but its key file is missing")]
    MissingKey { path: PathBuf },
    #[error("certificate authority `{path}` expired at {expired}")]
    Expired { path: PathBuf, expired: jiff::Timestamp },
    #[error("not a certificate: {0}")]
    Certificate(String),
    #[error("not a private key: {0}")]
    Key(String),
    #[error("making a certificate")]
    Issue(#[from] rcgen::Error),
    #[error("setting up TLS")]
    Tls(#[from] rustls::Error),
    #[error("setting up the check of client certificates: {0}")]
    Verifier(String),
}
