//! Errors of talking to a container runtime.
use std::path::PathBuf;

/// Why a call to the runtime failed.
#[derive(Debug, thiserror::Error)]
pub enum CriError {
    #[error("cannot connect to the container runtime at {}", socket.display())]
    Connect { socket: PathBuf, source: tonic::transport::Error },
    /// The runtime answered with an error. Its message stands alone, since users read it in events.
    #[error("{}", .0.message())]
    Status(#[source] Box<tonic::Status>),
    #[error("the runtime's answer to {0} lacks its result")]
    Empty(&'static str),
}

impl CriError {
    /// The gRPC code, if the runtime answered at all.
    pub fn code(&self) -> Option<tonic::Code> {
        match self {
            Self::Status(status) => Some(status.code()),
            _ => None,
        }
    }
    pub fn is_not_found(&self) -> bool {
        self.code() == Some(tonic::Code::NotFound)
    }
    /// The runtime lacks this call (an older version).
    pub fn is_unimplemented(&self) -> bool {
        self.code() == Some(tonic::Code::Unimplemented)
    }
    /// The call ran out of time.
    pub fn is_timeout(&self) -> bool {
        self.code() == Some(tonic::Code::DeadlineExceeded)
    }
    /// The runtime is down or restarting.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Connect { .. }) || self.code() == Some(tonic::Code::Unavailable)
    }
}

impl From<tonic::Status> for CriError {
    fn from(status: tonic::Status) -> Self {
        Self::Status(Box::new(status))
    }
}
