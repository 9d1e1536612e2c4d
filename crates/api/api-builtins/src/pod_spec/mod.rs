//! The PodSpec, which pods and all workloads share: defaulting, validation, quality of service.
mod affinity;
mod containers;
pub mod defaults;
mod environment;
mod handlers;
pub mod images;
pub mod label_keys;
mod legacy_volumes;
mod mounts;
pub mod qos;
mod scheduling;
mod security;
pub mod template;
pub mod update;
pub mod validate;
mod volumes;
pub mod warnings;
mod windows;

pub use scheduling::{taint_effect, tolerations as validate_tolerations};
pub use volumes::csi_driver_name;
