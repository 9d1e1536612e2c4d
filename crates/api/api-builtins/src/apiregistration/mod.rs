//! apiregistration.k8s.io/v1: its kinds, a file each.
mod api_service;
pub mod local;

pub use api_service::APIServices;
