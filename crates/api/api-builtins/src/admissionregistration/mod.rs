//! admissionregistration.k8s.io/v1: its kinds, a file each.
mod expressions;
mod mutating_admission_policy;
mod mutating_admission_policy_binding;
mod mutating_webhook_configuration;
mod type_checking;
mod validating_admission_policy;
mod validating_admission_policy_binding;
mod validating_webhook_configuration;
mod webhook;

pub use mutating_admission_policy::MutatingAdmissionPolicies;
pub use mutating_admission_policy_binding::MutatingAdmissionPolicyBindings;
pub use mutating_webhook_configuration::MutatingWebhookConfigurations;
pub use validating_admission_policy::ValidatingAdmissionPolicies;
pub use validating_admission_policy_binding::ValidatingAdmissionPolicyBindings;
pub use validating_webhook_configuration::ValidatingWebhookConfigurations;
pub(crate) use webhook::client_config;
