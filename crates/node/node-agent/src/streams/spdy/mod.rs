//! SPDY/3.1 as container runtimes speak it: frames, compressed headers, and a client connection.
//!
//! Source: the SPDY protocol, draft 3.1. Kubernetes' peers use no flow control (they neither send nor heed
//! WINDOW_UPDATE) and leave it to TCP; so does this.

mod connection;
mod frame;
mod headers;

pub use connection::{Event, Incoming, Outgoing, open};
pub use frame::Frame;
pub use headers::{HeaderReader, HeaderWriter};

/// What makes a SPDY connection unusable.
#[derive(Debug, thiserror::Error)]
pub enum SpdyError {
    #[error("the runtime's connection failed: {0}")]
    Io(#[from] std::io::Error),
    #[error("the runtime sent a SPDY frame that is malformed: {0}")]
    Malformed(&'static str),
    #[error("the runtime's connection is closed")]
    Closed,
}
