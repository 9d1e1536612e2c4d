//! IAM: organisations, projects, users and what they may do; their tokens, and who these are to Kubernetes.

pub mod command_line;
mod definitions;
mod directory;
mod engine;
mod error;
pub mod kinds;
mod kubernetes;
mod password;
pub mod plan;
mod rate_limit;
mod server;
mod settings;
mod signing_keys;
mod tokens;

pub use directory::Directory;
pub use engine::{AuditSink, Iam, Identity, Issued, TokenRequest};
pub use error::IamError;
pub use kubernetes::{install, start};
pub use server::{Answer, Asker, PREFIX, is_open, serve};
pub use settings::IamSettings;
pub use tokens::Claims;
