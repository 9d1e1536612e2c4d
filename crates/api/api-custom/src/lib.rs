//! Custom resources: what a CustomResourceDefinition declares, as resources the server works with at run time.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod column;
mod custom_resource;
mod definition;
mod embedded;
mod family;
mod json_path;
pub mod state;

pub use custom_resource::CustomResource;
pub use definition::{AcceptedNames, CLEANUP, Definition, DefinitionError, GROUP, PLURAL};
pub use json_path::{JsonPath, JsonPathError};
