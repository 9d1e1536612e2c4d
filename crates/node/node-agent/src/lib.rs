//! The node agent: runs the pods bound to this node, of all clusters, on a CRI runtime.

pub mod containerd;
mod error;
mod image_name;
mod machine;
pub mod streams;

pub use error::AgentError;
