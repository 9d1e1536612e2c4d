//! IamError: why something asked of IAM was not done.
use api_client::kube;
use thiserror::Error;

#[derive(Debug, Error)]
pub enum IamError {
    /// Who asks has not shown who they are. What was wrong is told to nobody but the log.
    #[error("invalid or expired credentials")]
    Credentials,
    #[error("too many attempts")]
    TooMany,
    #[error("{0}")]
    Forbidden(String),
    #[error("{0}")]
    Invalid(String),
    #[error("{kind} {name:?} not found")]
    NotFound { kind: &'static str, name: String },
    #[error("the server does not allow this method on the requested resource")]
    Method,
    #[error("a provider of logins can't be used: {0}")]
    Provider(String),
    #[error("the signing keys are not known yet")]
    NotReady,
    #[error("a signing key can't be used: {0}")]
    Key(String),
    #[error("reading or writing IAM's data")]
    Api(#[from] kube::Error),
}

impl IamError {
    /// The HTTP code that tells of it.
    pub fn code(&self) -> u16 {
        match self {
            Self::Credentials => 401,
            Self::Forbidden(_) => 403,
            Self::NotFound { .. } => 404,
            Self::Method => 405,
            Self::Invalid(_) => 422,
            Self::TooMany => 429,
            Self::NotReady => 503,
            Self::Key(_) | Self::Provider(_) => 500,
            Self::Api(kube::Error::Api(status)) => status.code,
            Self::Api(_) => 500,
        }
    }
}
