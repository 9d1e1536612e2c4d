//! scheduling.k8s.io/v1: its kinds, a file each.
mod priority_class;

pub use priority_class::PriorityClasses;
