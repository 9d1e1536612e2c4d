//! flowcontrol.apiserver.k8s.io/v1: its kinds, a file each.
mod flow_schema;
mod priority_level_configuration;

pub use flow_schema::FlowSchemas;
pub use priority_level_configuration::PriorityLevelConfigurations;
