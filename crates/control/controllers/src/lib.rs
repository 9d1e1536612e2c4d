//! The controllers: each folder decides purely and acts thinly; all run once, for all clusters.

mod deployment;
mod owners;
mod pods;
mod replica_set;
mod run;
mod settings;
mod templates;

pub use run::run;
pub use settings::ControllersSettings;
