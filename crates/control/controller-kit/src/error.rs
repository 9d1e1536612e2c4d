//! What may go wrong while a controller acts.
use api_client::kube;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API refused.
    #[error("{}", .0.message)]
    Api(Box<kube::core::Status>),
    /// The API could not be asked, or its answer not be understood.
    #[error("the API could not be asked: {0}")]
    Transport(#[source] Box<kube::Error>),
    #[error("a request could not be made: {0}")]
    Request(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The object itself is at fault; a retry helps only once it changes.
    #[error("{0}")]
    Invalid(String),
    /// The world is not ready yet; try again.
    #[error("{0}")]
    NotYet(String),
    /// Nothing failed, but it takes time: look again after this long.
    #[error("{why}")]
    Later { after: std::time::Duration, why: String },
}

impl From<kube::Error> for Error {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::Api(status),
            other => Self::Transport(Box::new(other)),
        }
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::Request(Box::new(error))
    }
}

impl Error {
    /// The HTTP code of the API's refusal.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Api(status) => Some(status.code),
            _ => None,
        }
    }
    pub fn reason(&self) -> &str {
        match self {
            Self::Api(status) => &status.reason,
            _ => "",
        }
    }
    pub fn is_not_found(&self) -> bool {
        self.code() == Some(404)
    }
    /// The object changed meanwhile, or exists already.
    pub fn is_conflict(&self) -> bool {
        self.code() == Some(409)
    }
    pub fn is_already_exists(&self) -> bool {
        self.reason() == "AlreadyExists"
    }
    pub fn is_invalid(&self) -> bool {
        self.code() == Some(422)
    }
    /// Refused because the namespace is going away: whatever was tried needs no retry.
    pub fn is_namespace_terminating(&self) -> bool {
        match self {
            Self::Api(status) => status.code == 403 && status.details.iter().flat_map(|d| &d.causes).any(|cause| cause.reason == "NamespaceTerminating"),
            _ => false,
        }
    }
}
