//! The node agent: runs the pods bound to this node, of all clusters, on a CRI runtime.

mod cgroup;
pub mod containerd;
mod error;
mod events;
mod go_duration;
mod image;
mod machine;
pub mod pod;
mod probe;
mod settings;
pub mod streams;
mod termination_message;

pub use error::AgentError;
pub use settings::{AgentSettings, OnShutdown};
