//! One pod's life on this node: decided in `plan` and `status`, carried out by `worker`.

pub mod addresses;
pub mod back_off;
pub mod conditions;
pub mod container_config;
pub mod containers;
pub mod dns;
pub mod effects;
pub mod environment;
#[cfg(test)]
mod fixture;
pub mod hosts_file;
pub mod identity;
pub mod paths;
pub mod phase;
pub mod plan;
pub mod probe_results;
pub mod resources;
pub mod runtime_state;
pub mod sandbox_config;
pub mod security;
pub mod start;
pub mod start_history;
pub mod status;
pub mod status_patch;
#[cfg(test)]
mod status_tests;
pub mod worker;
