//! events.k8s.io/v1: its kinds, a file each.
mod event;

pub use event::{Events, VERSIONS};
