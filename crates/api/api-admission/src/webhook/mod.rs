//! Webhooks: those who are asked over HTTPS whether a request may pass, and what it should be.
mod call;
mod client;
mod configuration;
mod mutating;
mod target;
mod validating;

pub(crate) use configuration::Webhook;
pub use mutating::MutatingAdmissionWebhook;
pub use validating::ValidatingAdmissionWebhook;
