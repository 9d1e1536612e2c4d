//! flowcontrol.apiserver.k8s.io/v1: its kinds, a file each, and the objects every cluster starts with.
pub mod bootstrap;
mod flow_schema;
mod priority_level_configuration;
mod rules;

pub use flow_schema::FlowSchemas;
pub use priority_level_configuration::PriorityLevelConfigurations;

use crate::check::{At, Report};
use api_meta::FieldErrors;

/// What keeps the server reachable by its administrators stays as it is.
fn mandatory(errors: &mut FieldErrors, spec: &At, name: &str, kind: &str) {
    if let Some(fixed) = bootstrap::mandatory_spec(kind, name)
        && *spec.value() != fixed
    {
        errors.invalid(spec, format!("spec of '{name}' must equal the fixed value"));
    }
}
