//! policy/v1: its kinds, a file each.
mod pod_disruption_budget;

pub use pod_disruption_budget::PodDisruptionBudgets;
