//! The controllers: each folder decides purely and acts thinly; all run once, for all clusters.

mod deployment;
mod discovery;
mod endpoint_slice;
mod endpoints;
mod garbage_collector;
mod job;
mod namespace;
mod node_lifecycle;
mod owners;
mod pod_gc;
mod pods;
mod replica_set;
mod root_ca;
mod run;
mod service_account;
mod service_pods;
mod settings;
mod taint_eviction;
mod templates;

pub use run::run;
pub use settings::ControllersSettings;
