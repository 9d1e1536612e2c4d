//! Webhooks: those who are asked over HTTPS whether a request may pass, and what it should be.
mod answer;
mod call;
mod client;
mod client_config;
mod configuration;
mod mutating;
mod target;
mod validating;

pub use client::{WebhookClient, WebhookError, system_authorities};
pub use client_config::ClientConfig;
pub(crate) use configuration::Webhook;
pub use mutating::MutatingAdmissionWebhook;
pub use target::{Dial, ready_endpoints, service_endpoint};
pub use validating::ValidatingAdmissionWebhook;
