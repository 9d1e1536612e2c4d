//! Aside: load that is felt through the server alone, as if its clients were on machines of their own.
use anyhow::{Context, Result, anyhow};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// Load that goes on until it is stopped.
pub struct Aside<T> {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<T>>,
}

/// Whether the load shall end.
#[derive(Clone)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    pub fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Starts load on a thread that nobody else gets, and that works when nobody else wants the processor.
pub fn aside<T: Send + 'static, F: Future<Output = Result<T>>>(load: impl FnOnce(Stop) -> F + Send + 'static) -> Aside<T> {
    let stop = Arc::<AtomicBool>::default();
    let stopped = Stop(stop.clone());
    let thread = std::thread::spawn(move || {
        telemetry::give_way().context("the priority of a thread")?;
        tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(load(stopped))
    });
    Aside { stop, thread }
}

impl<T: Send + 'static> Aside<T> {
    pub async fn end(self) -> Result<T> {
        self.stop.store(true, Ordering::Relaxed);
        tokio::task::spawn_blocking(move || self.thread.join()).await?.map_err(|_| anyhow!("the clients that make load panicked"))?
    }
}
