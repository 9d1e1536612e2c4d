//! This machine as the cluster's Node: its object, its status, its lease.

mod lease;
mod node_object;
mod reporter;

pub use node_object::{allocatable, capacity};
pub use reporter::NodeReporter;
