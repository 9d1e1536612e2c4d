//! The Container Storage Interface, version 1: its messages, clients and servers, and how drivers are reached.

pub mod access;
mod channel;
pub mod names;

pub use channel::{channel, channel_over, listen};

/// The messages of CSI (<https://github.com/container-storage-interface/spec>).
#[allow(clippy::all, clippy::unwrap_used, clippy::disallowed_methods, rustdoc::all, reason = "generated code")]
pub mod v1 {
    tonic::include_proto!("csi.v1");
}

/// How plugins make themselves known to the agent of their node (the kubelet's plugin registration, KEP 3770).
#[allow(clippy::all, clippy::unwrap_used, clippy::disallowed_methods, rustdoc::all, reason = "generated code")]
pub mod registration {
    tonic::include_proto!("pluginregistration.v1");
}
