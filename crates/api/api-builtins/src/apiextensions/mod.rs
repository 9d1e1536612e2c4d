//! apiextensions.k8s.io/v1: its kinds, a file each.
mod approval;
mod conversion;
mod custom_resource_definition;
mod names;
mod schema;
mod spec;
mod structural;
mod version;

pub use custom_resource_definition::CustomResourceDefinitions;
pub use structural::violations as structural_violations;
