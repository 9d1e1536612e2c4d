//! node.k8s.io/v1: its kinds, a file each.
mod runtime_class;

pub use runtime_class::RuntimeClasses;
