//! coordination.k8s.io/v1: its kinds, a file each.
mod lease;

pub use lease::Leases;
