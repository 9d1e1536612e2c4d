//! IAM: organisations, projects, users and what they may do; their tokens, and who these are to Kubernetes.

mod administration;
pub mod command_line;
mod definitions;
mod directory;
mod engine;
mod error;
mod grpc;
pub mod kinds;
mod kubernetes;
mod oidc;
mod password;
pub mod plan;
mod rate_limit;
mod server;
mod settings;
mod signing_keys;
mod tokens;

pub use administration::{OWN, Scope};
pub use directory::{Directory, Sort};
pub use engine::{AuditSink, Iam, Identity, Issued, TokenRequest};
pub use error::IamError;
pub use kubernetes::{install, start};
pub use oidc::{ProviderSettings, providers};
pub use server::{Answer, Asker, PREFIX, is_open, serve};
pub use settings::IamSettings;
pub use signing_keys::SigningAlgorithm;
pub use tokens::Claims;

/// IamService and its messages.
#[allow(clippy::all, clippy::unwrap_used, clippy::disallowed_methods, rustdoc::all, reason = "generated code")]
pub mod v1 {
    tonic::include_proto!("iam.v1");
    /// What the API declares, as a FileDescriptorSet encodes it.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
}
