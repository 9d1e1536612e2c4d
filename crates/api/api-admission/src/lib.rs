//! Admission: what is changed in, or refused of, a request that is otherwise allowed.

mod chain;
mod plugins;
mod pod;
mod quota;
mod request;
#[cfg(test)]
mod testing;

pub use chain::{AdmissionChain, Plugin};
pub use plugins::namespace_lifecycle::namespace_terminating;
pub use plugins::pod_security::{Level, PodSecurity, Policy, Standard, Version};
pub use request::{AdmissionRequest, Operation};
