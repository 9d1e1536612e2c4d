//! Drivers of devices on a node (KEP 4381): their messages, clients and servers, in both versions there are.
mod plugin;

pub use plugin::{Plugin, VERSIONS};

/// What drivers call themselves when they register.
pub const PLUGIN_TYPE: &str = "DRAPlugin";

#[allow(clippy::all, clippy::unwrap_used, clippy::disallowed_methods, rustdoc::all, reason = "generated code")]
pub mod v1 {
    tonic::include_proto!("k8s.io.kubelet.pkg.apis.dra.v1");
}

#[allow(clippy::all, clippy::unwrap_used, clippy::disallowed_methods, rustdoc::all, reason = "generated code")]
pub mod v1beta1 {
    tonic::include_proto!("k8s.io.kubelet.pkg.apis.dra.v1beta1");
}
