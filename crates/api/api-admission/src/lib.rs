//! Admission: what is changed in, or refused of, a request that is otherwise allowed.

mod chain;
mod plugins;
mod pod;
mod request;
#[cfg(test)]
mod testing;

pub use chain::{AdmissionChain, Plugin};
pub use request::{AdmissionRequest, Operation};
