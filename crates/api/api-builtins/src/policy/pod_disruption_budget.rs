//! PodDisruptionBudget: how many pods may be down by choice.
use crate::cells::{int_or_string, number};
use api_resource::{Column, Names, Resource, STATUS, Subresource, text};

pub struct PodDisruptionBudgets;

impl Resource for PodDisruptionBudgets {
    const NAMES: Names = Names::with("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", "poddisruptionbudget", const { &[text("pdb")] }, &[]);
    const COLUMNS: &'static [Column] = &[
        Column::with("Min Available", |row| int_or_string(&row.object["spec"]["minAvailable"], "N/A")),
        Column::with("Max Unavailable", |row| int_or_string(&row.object["spec"]["maxUnavailable"], "N/A")),
        Column::with("Allowed Disruptions", |row| number(&row.object["status"]["disruptionsAllowed"])).integer(),
    ];
    const SUBRESOURCES: &'static [Subresource] = &[STATUS];
    const UNCONDITIONAL_UPDATE: bool = false;
}
