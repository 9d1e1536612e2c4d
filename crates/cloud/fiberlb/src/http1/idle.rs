//! IdleConnections: connections to one backend that wait for the next request, each with the worker that made it.
use crate::backend_stream::BackendStream;
use crate::workers;
use parking_lot::Mutex;
use std::time::Duration;
use tokio::time::Instant;

/// So many are kept by each worker.
const KEPT: usize = 128;
/// Idle for longer, the backend has most likely hung up.
const IDLE: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub struct IdleConnections {
    by_worker: [Mutex<Vec<(BackendStream, Instant)>>; workers::MOST],
}

impl Default for IdleConnections {
    fn default() -> Self {
        Self { by_worker: std::array::from_fn(|_| Mutex::default()) }
    }
}

impl IdleConnections {
    /// The one used last, so that a quiet backend's connections run out.
    pub fn take(&self) -> Option<BackendStream> {
        let mut idle = self.by_worker[workers::own_index()?].lock();
        while let Some((stream, since)) = idle.pop() {
            if since.elapsed() > IDLE {
                // All below wait for longer.
                idle.clear();
                return None;
            }
            if stream.is_quiet() {
                return Some(stream);
            }
        }
        None
    }

    pub fn give(&self, stream: BackendStream) {
        let Some(own) = workers::own_index() else { return };
        let mut idle = self.by_worker[own].lock();
        if idle.len() < KEPT {
            idle.push((stream, Instant::now()));
        }
    }
}
