//! The vocabulary of validation: a place in an object, errors collected about it, and the checks kinds share.
mod at;
pub mod metadata;
pub mod names;
pub mod network;
pub mod numbers;
pub mod resources;
pub mod selectors;

pub use at::{At, Report};
