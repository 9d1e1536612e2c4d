//! Tokens: what a service asks of whoever can tell a good one.
use crate::Caller;

/// Tells whom a bearer token speaks for.
pub trait TokenVerifier: Send + Sync + 'static {
    fn verify(&self, token: &str) -> Result<Caller, TokenError>;
}

/// Why a token is no good. For logs: who brought it is told no more than that it is invalid or expired.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TokenError {
    #[error("the token can't be read: {0}")]
    Malformed(String),
    #[error("the token is signed with `{0}`, which is not accepted")]
    Algorithm(String),
    #[error("no key has the token's id")]
    UnknownKey,
    #[error("the token's signature is wrong")]
    Signature,
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet")]
    NotYet,
    #[error("the token is for another audience")]
    Audience,
    #[error("the token is of another issuer")]
    Issuer,
    #[error("the token has been revoked")]
    Revoked,
}
