//! Virtual clusters: K3k's Cluster and VirtualClusterPolicy, kept true by asking the server to serve what they say.

mod definitions;

pub use definitions::install;
