//! PodDisruptionBudget: how many pods may be down by choice.
use api_resource::{Names, Resource, STATUS, Subresource, text};

pub struct PodDisruptionBudgets;

impl Resource for PodDisruptionBudgets {
    const NAMES: Names = Names::with("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", "poddisruptionbudget", const { &[text("pdb")] }, &[]);
    const SUBRESOURCES: &'static [Subresource] = &[STATUS];
    const UNCONDITIONAL_UPDATE: bool = false;
}
