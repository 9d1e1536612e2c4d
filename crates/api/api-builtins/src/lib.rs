//! The built-in kinds: one file a kind in a folder a group, and the registry that lists them.

mod admissionregistration;
mod apiextensions;
mod apiregistration;
mod apps;
mod autoscaling;
mod batch;
mod cells;
mod certificates;
mod check;
mod coordination;
mod core;
mod discovery;
mod events;
mod fields;
mod flowcontrol;
mod metrics;
mod networking;

mod node;
mod pod_spec;
mod policy;
mod quantities;
mod rbac;
mod registry;
mod resource;
mod reviews;
mod scheduling;
mod storage;
mod storagemigration;
mod subresources;

pub use apiextensions::structural_violations;
pub use apiregistration::local as local_api_services;
pub use flowcontrol::bootstrap as flow_control;
pub use registry::{BUILTINS, find};
