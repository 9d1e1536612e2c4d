//! The one schema engine: prune, default, validate, describe. Pure; no I/O.

pub mod builtin;
mod schema;
mod structure;

pub use schema::{Constraints, ListType, MapType, PatchStrategy, Schema, SchemaRef, Type};
