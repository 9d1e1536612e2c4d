//! HTTP/1: the whole way of a connection's requests in one task: read, judged, led on, answered.
//!
//! Nothing that came in is passed on as it came. A head is read whole and written anew, and a body is followed to its end
//! by the one length that its head gives it ([`framing`]); so this proxy and a backend never differ about where a message
//! ends. What RFC 9112 leaves room for is refused from clients.

mod asked;
mod authority;
mod body;
mod buffer;
mod chunks;
mod client;
mod exchange;
mod framing;
mod head;
mod http2_backend;
mod idle;
mod outgoing;
mod patience;
mod relay;
mod request_head;
mod response_head;
#[cfg(test)]
mod stream_tests;
mod switched;

pub use client::{Ended, serve};
pub use idle::IdleConnections;

/// The largest head; a larger one of a client is answered with 431.
pub const HEAD_LIMIT: usize = 64 << 10;
/// More headers are as bad as too large a head.
const HEADERS: usize = 100;
