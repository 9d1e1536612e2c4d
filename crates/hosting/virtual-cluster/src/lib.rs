//! Virtual clusters: K3k's Cluster and VirtualClusterPolicy, and snapshots of them, kept true by asking the server to serve what they say.

mod cluster;
pub mod command_line;
mod definitions;
mod effective;
mod kinds;
mod kubeconfig;
mod names;
mod policy;
mod run;
mod snapshot;
mod status;

pub use cluster::{HostFacts, StorageObjects};
pub use definitions::install;
pub use run::{roster, run};
