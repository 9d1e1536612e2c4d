//! The kubelet's HTTPS server: container logs, exec, attach and port-forward of pods of all clusters.
//!
//! Paths are upstream's kubelet's, below `/clusters/{cluster}`; without that they mean the cluster `root`.
//! Only the API server is let in. It passes its users' upgraded connections through as they are, so this
//! server speaks what kubectl speaks, and SPDY/3.1 to the container runtime.
//!
//! Where to start reading: `server` (connections), `route` (paths), `handler` (what each path does).

mod backend;
mod bridge;
mod caller;
mod error;
mod file_watch;
mod handler;
mod log_file;
mod log_lines;
mod log_options;
mod log_source;
mod query;
mod remote_command;
mod route;
mod runtime_stream;
mod server;
pub mod spdy;
pub mod summary;
mod tail;
mod tunnel;
mod volume_metrics;
pub mod web_socket;

pub use backend::{BackendError, StreamOptions, StreamsBackend};
pub use error::StreamsError;
pub use server::{StreamsServer, StreamsSettings};
