//! Admission: what is changed in, or refused of, a request that is otherwise allowed.

mod cel;
mod chain;
mod host;
mod matching;
mod plugins;
mod pod;
mod policy;
mod quota;
mod registry;
mod reinvocation;
mod request;
mod review;
mod selector;
#[cfg(test)]
mod testing;
mod way;
mod webhook;

pub use chain::{AdmissionChain, Plugin};
pub use host::{Host, Served};
pub use plugins::namespace_lifecycle::namespace_terminating;
pub use plugins::pod_security::{Level, PodSecurity, Policy, Standard, Version};
pub use policy::{MutatingAdmissionPolicyPlugin, ValidatingAdmissionPolicyPlugin};
pub use registry::{ConfigurationKind, Registry};
pub use request::{About, AdmissionRequest, Operation};
pub use way::Way;
pub use webhook::{
    ClientConfig, Dial, MutatingAdmissionWebhook, ValidatingAdmissionWebhook, WebhookClient, WebhookError, ready_endpoints, service_endpoint,
    system_authorities,
};
