//! Probes and the actions they share with lifecycle hooks: commands, HTTP, TCP, gRPC.

mod action;
mod grpc;
mod hook;
mod http;
mod prober;

pub use action::ActionTarget;
pub use hook::run_hook;
pub use prober::{ProbeReport, ProbeTarget, run_probe};
