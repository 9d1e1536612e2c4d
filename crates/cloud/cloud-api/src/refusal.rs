//! Refusals: why a service does not do what its caller asks for, and the status that says so.
use tonic::Status;

/// Nothing is changed by what was refused. Messages are for the caller.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("{0}")]
    Invalid(String),
    /// There is none, or it is others'.
    #[error("{0}")]
    Missing(String),
    #[error("{0}")]
    Exists(String),
    #[error("{0}")]
    Denied(String),
    #[error("{0}")]
    Exhausted(String),
    /// What is there stands against it.
    #[error("{0}")]
    InUse(String),
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Invalid(message) => Self::invalid_argument(message),
            Refusal::Missing(message) => Self::not_found(message),
            Refusal::Exists(message) => Self::already_exists(message),
            Refusal::Denied(message) => Self::permission_denied(message),
            Refusal::Exhausted(message) => Self::resource_exhausted(message),
            Refusal::InUse(message) => Self::failed_precondition(message),
        }
    }
}
