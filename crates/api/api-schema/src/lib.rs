//! The one schema engine: prune, default, validate, describe. Pure; no I/O.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod base64_text;
pub mod builtin;
pub mod cel;
mod decode;
mod defaults;
mod formats;
mod go_time;
pub mod openapi;
pub mod protobuf;
mod prune;
mod schema;
mod structural;
mod structure;
mod types;
mod validate;

pub use decode::{Decoded, decode};
pub use defaults::apply_defaults;
pub use prune::{prune, prune_part};
pub use schema::{Constraints, ListType, MapType, PatchStrategy, Pattern, Schema, SchemaRef, Type};
pub use structural::SchemaError;
pub use types::{check_types, decode_types};
pub use validate::{validate, validate_update};
