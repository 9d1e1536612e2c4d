//! The node agent: runs the pods bound to this node, of all clusters, on a CRI runtime.
//!
//! Where to start reading: `agent` (the whole), `pod_manager` (a worker for each pod), `pod::worker` (one
//! pod's loop), `pod::plan` and `pod::status` (its decisions, pure).

mod admission;
mod agent;
mod backend;
mod cgroup;
pub mod containerd;
mod context;
mod devices;
mod error;
mod events;
mod go_duration;
mod image;
mod log_rotation;
mod machine;
mod node;
mod pod;
mod pod_manager;
mod pod_network;
mod pod_table;
mod probe;
mod settings;
pub mod streams;
mod termination_message;

pub use agent::run;
pub use error::AgentError;
pub use node::EvictionThresholds;
pub use pod_network::{ExpectedPod, PodNetwork};
pub use settings::{AgentSettings, OnShutdown};
