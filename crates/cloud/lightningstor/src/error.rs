//! Error: why a volume could not be served, and the gRPC code that says so.
use std::io;
use std::path::PathBuf;
use tonic::{Code, Status};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Invalid(String),
    #[error("{what} {id:?} not found")]
    NotFound { what: &'static str, id: String },
    /// It exists, and is not what was asked for.
    #[error("{0}")]
    AlreadyExists(String),
    /// It can't be done in the state things are in.
    #[error("{0}")]
    FailedPrecondition(String),
    /// Somebody else is at it: to be tried again.
    #[error("{0}")]
    Busy(String),
    #[error("{0}")]
    ResourceExhausted(String),
    #[error("{0}")]
    OutOfRange(String),
    #[error("{action} {}: {cause}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("{tool} failed: {output}")]
    Tool { tool: &'static str, output: String },
    #[error("the metadata {} can't be read: {cause}", path.display())]
    Metadata {
        path: PathBuf,
        #[source]
        cause: serde_json::Error,
    },
}

impl Error {
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |cause| Self::Io { action, path, cause }
    }
    pub(crate) fn volume(id: &str) -> Self {
        Self::NotFound { what: "volume", id: id.into() }
    }
    pub fn code(&self) -> Code {
        match self {
            Self::Invalid(_) => Code::InvalidArgument,
            Self::NotFound { .. } => Code::NotFound,
            Self::AlreadyExists(_) => Code::AlreadyExists,
            Self::FailedPrecondition(_) => Code::FailedPrecondition,
            Self::Busy(_) => Code::Aborted,
            Self::ResourceExhausted(_) => Code::ResourceExhausted,
            Self::OutOfRange(_) => Code::OutOfRange,
            Self::Io { cause, .. } if cause.kind() == io::ErrorKind::StorageFull => Code::ResourceExhausted,
            Self::Io { cause, .. } if cause.kind() == io::ErrorKind::ResourceBusy => Code::Aborted,
            Self::Io { .. } | Self::Tool { .. } | Self::Metadata { .. } => Code::Internal,
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        Self::new(error.code(), error.to_string())
    }
}
