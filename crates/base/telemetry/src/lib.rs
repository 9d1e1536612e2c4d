//! Logs, one line an event on stderr, filtered by `K8SHOST_LOG`, as text or (`K8SHOST_LOG_FORMAT=json`) as JSON; and metrics.
mod memory;
pub mod metrics;
mod priority;
mod process;

pub use memory::forget_start;
pub use priority::give_way;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

/// What is logged unless `K8SHOST_LOG` says otherwise.
const DEFAULT_FILTER: &str = "info,hyper=warn,h2=warn,rustls=warn,tower=warn,kube=warn";

/// Starts logging. The first call counts; later ones change nothing.
pub fn init() {
    let filter = EnvFilter::try_from_env("K8SHOST_LOG").unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    let json = std::env::var("K8SHOST_LOG_FORMAT").is_ok_and(|format| format == "json");
    // An error says that logging has already been started.
    let _ = if json { builder.json().try_init() } else { builder.with_ansi(false).compact().try_init() };
}
