//! discovery.k8s.io/v1: its kinds, a file each.
mod endpoint_slice;

pub use endpoint_slice::EndpointSlices;
