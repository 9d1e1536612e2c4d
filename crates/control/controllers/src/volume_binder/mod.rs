//! Volume binder: brings claims and volumes together.
pub mod claims;
mod find;
pub mod volumes;
