//! The controllers: each folder decides purely and acts thinly; all run once, for all clusters.

mod deployment;
mod discovery;
mod endpoint_slice;
mod endpoints;
mod namespace;
mod owners;
mod pods;
mod replica_set;
mod root_ca;
mod run;
mod service_account;
mod service_pods;
mod settings;
mod templates;

pub use run::run;
pub use settings::ControllersSettings;
