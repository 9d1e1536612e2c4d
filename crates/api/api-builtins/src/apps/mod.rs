//! apps/v1: its kinds, a file each.
mod controller_revision;
mod daemon_set;
mod deployment;
mod replica_set;
mod replica_status;
mod stateful_set;

pub use controller_revision::ControllerRevisions;
pub use daemon_set::DaemonSets;
pub use deployment::Deployments;
pub use replica_set::ReplicaSets;
pub use stateful_set::StatefulSets;
