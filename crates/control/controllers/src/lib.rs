//! The controllers: each folder decides purely and acts thinly; all run once, for all clusters.

mod attach_detach;
mod cluster_role_aggregation;
mod cron_job;
mod daemon_set;
mod deployment;
mod discovery;
mod disruption;
mod endpoint_slice;
mod endpoint_slice_mirroring;
mod endpoints;
mod garbage_collector;
mod history;
mod horizontal_pod_autoscaler;
mod job;
mod namespace;
mod node_lifecycle;
mod owners;
mod pod_gc;
mod pods;
mod replica_set;
mod resource_quota;
mod root_ca;
mod run;
mod service_account;
mod service_pods;
mod settings;
mod stateful_set;
mod taint_eviction;
mod templates;
mod volume_binder;
mod volume_protection;

pub use run::run;
pub use settings::ControllersSettings;
