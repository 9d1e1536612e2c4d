//! Client of container runtimes: CRI v1, and containerd's own services for images and events.

mod channel;
pub mod containerd;
mod error;
mod runtime;

pub use error::CriError;
pub use runtime::{Runtime, image_spec};

/// The messages of CRI v1 (<https://kubernetes.io/docs/concepts/architecture/cri/>).
#[allow(clippy::all, clippy::unwrap_used, clippy::disallowed_methods, rustdoc::all, reason = "generated code")]
pub mod v1 {
    tonic::include_proto!("runtime.v1");
}
