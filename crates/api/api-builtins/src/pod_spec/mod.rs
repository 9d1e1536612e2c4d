//! The PodSpec, which pods and all workloads share: defaulting, validation, quality of service.
pub mod defaults;
pub mod images;
pub mod qos;
