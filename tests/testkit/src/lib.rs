//! What tests against real servers need: a running k8shost, kubectl and helm, hosts of their own, images.
mod command;
pub mod image;
pub mod images;
mod server;

pub use command::{Outcome, Tool};
pub use server::{Server, ServerOptions, wait_until};
