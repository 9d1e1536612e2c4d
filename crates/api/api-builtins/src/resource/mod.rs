//! resource.k8s.io/v1: its kinds, a file each.
mod counters;
mod device_class;
mod device_requests;
mod device_taint_rule;
mod devices;
mod resource_claim;
mod resource_claim_status;
mod resource_claim_template;
mod resource_slice;

pub use device_class::DeviceClasses;
pub use device_taint_rule::DeviceTaintRules;
pub use resource_claim::ResourceClaims;
pub use resource_claim_template::ResourceClaimTemplates;
pub use resource_slice::ResourceSlices;
