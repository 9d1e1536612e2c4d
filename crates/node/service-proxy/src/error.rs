//! What can go wrong while rules are put into the kernel.
use std::io;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("proxy settings are invalid: {0}")]
    Settings(String),
    #[error("nft can't be run: {0}")]
    Run(io::Error),
    #[error("nft refused the rules: {0}")]
    Refused(String),
    #[error("connection tracking can't be changed: {0}")]
    Conntrack(io::Error),
}
