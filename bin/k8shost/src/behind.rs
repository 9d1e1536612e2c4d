//! Behind: threads that work when nobody else wants the processor, for connections that have taken more than their share.
use std::io;
use tokio::runtime::{Builder, Runtime};

/// # Errors
/// The threads can't be started.
pub fn runtime(workers: usize) -> io::Result<Runtime> {
    Builder::new_multi_thread().worker_threads(workers).thread_name("behind").on_thread_start(give_way).enable_all().build()
}

fn give_way() {
    if let Err(error) = telemetry::give_way() {
        tracing::warn!(%error, "connections that have taken more than their share are worked on like all others");
    }
}
