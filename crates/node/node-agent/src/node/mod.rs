//! This machine as the cluster's Node: its object, its status, its lease.

mod eviction_thresholds;
mod lease;
mod node_object;
mod reporter;

pub use eviction_thresholds::EvictionThresholds;
pub use node_object::{allocatable, capacity};
pub use reporter::NodeReporter;
