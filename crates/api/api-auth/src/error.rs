//! AuthError: why credentials were not accepted.
use crate::LegacyUse;
use thiserror::Error;

/// Each of these is a 401 to the client, except `Lookup`, which carries the read's own Status.
#[derive(Debug, Error)]
pub enum AuthError {
    #[error("the certificate authority is not usable")]
    Authority(#[source] pki::PkiError),
    #[error("the signing key is not usable: {0}")]
    Key(String),
    #[error("cluster {0:?} accepts no client certificates")]
    NoAuthority(String),
    #[error("the client certificate is not valid for cluster {cluster:?}: {why}")]
    Certificate { cluster: String, why: String },
    #[error("the client certificate names no user: its common name is empty")]
    NoCommonName,
    #[error("the token is not valid: {0}")]
    Token(String),
    #[error("the token is bound to another cluster")]
    OtherCluster,
    #[error("the token is not for the audiences {0:?}")]
    Audience(Vec<String>),
    #[error("service account token has expired")]
    Expired,
    #[error("service account token is issued in the future")]
    NotYet,
    #[error("service account token has been invalidated: {0}")]
    Invalidated(String),
    /// A use all the same, which is noted.
    #[error("the token in secret {namespace}/{secret} for service account {namespace}/{account} has been marked invalid. Use tokens from the TokenRequest API or manually created secret-based tokens, or remove the 'kubernetes.io/legacy-token-invalid-since' label from the secret to temporarily allow use of this token", namespace = .used.namespace, secret = .used.secret)]
    MarkedInvalid { used: Box<LegacyUse>, account: String },
    #[error("the token webhook: {0}")]
    Webhook(String),
    #[error("{0}")]
    Jwt(String),
    #[error("reading an object the token is bound to: {0}")]
    Lookup(api_meta::Status),
}
