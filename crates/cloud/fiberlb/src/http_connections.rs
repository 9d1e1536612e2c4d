//! HttpConnections: connections to one backend that wait for the next request.
use crate::http_body::OutgoingBody;
use hyper::client::conn::{http1, http2};
use parking_lot::Mutex;
use tokio::time::{Duration, Instant};

/// So many idle ones are kept.
const KEPT: usize = 256;
/// Idle for longer, the backend has most likely hung up.
const IDLE: Duration = Duration::from_secs(30);

#[derive(Default)]
pub struct HttpConnections {
    idle: Mutex<Vec<(http1::SendRequest<OutgoingBody>, Instant)>>,
    shared: Mutex<Option<http2::SendRequest<OutgoingBody>>>,
}

impl std::fmt::Debug for HttpConnections {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HttpConnections({})", self.idle.lock().len())
    }
}

impl HttpConnections {
    /// The one used last, so that a quiet backend's connections run out.
    pub fn take(&self) -> Option<http1::SendRequest<OutgoingBody>> {
        let mut idle = self.idle.lock();
        while let Some((connection, since)) = idle.pop() {
            if since.elapsed() > IDLE {
                // All below wait for longer.
                idle.clear();
                return None;
            }
            if !connection.is_closed() {
                return Some(connection);
            }
        }
        None
    }

    pub fn give(&self, connection: http1::SendRequest<OutgoingBody>) {
        if connection.is_closed() {
            return;
        }
        let mut idle = self.idle.lock();
        if idle.len() < KEPT {
            idle.push((connection, Instant::now()));
        }
    }

    /// The HTTP/2 connection that all requests share.
    pub fn shared(&self) -> Option<http2::SendRequest<OutgoingBody>> {
        self.shared.lock().as_ref().filter(|connection| !connection.is_closed()).cloned()
    }
    pub fn share(&self, connection: http2::SendRequest<OutgoingBody>) {
        *self.shared.lock() = Some(connection);
    }
}
