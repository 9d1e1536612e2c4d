//! Errors of the streams server: those that keep it from starting, and refusals of single requests.
use super::backend::BackendError;
use http::StatusCode;
use std::net::SocketAddr;

/// Why the server could not start.
#[derive(Debug, thiserror::Error)]
pub enum StreamsError {
    #[error("can't listen on {address}: {cause}")]
    Bind {
        address: SocketAddr,
        #[source]
        cause: std::io::Error,
    },
    #[error("its certificates can't be used: {0}")]
    Tls(#[from] pki::PkiError),
}

/// A request's refusal: what its caller sees.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    pub status: StatusCode,
    pub message: String,
}

impl Refusal {
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }
}

impl From<BackendError> for Refusal {
    fn from(error: BackendError) -> Self {
        match error {
            BackendError::NotFound(message) => Self::not_found(message),
            BackendError::Busy(message) => Self::new(StatusCode::TOO_MANY_REQUESTS, message),
            BackendError::Failed(message) => Self::internal(message),
        }
    }
}
