//! PodDisruptionBudget: how many pods may be down by choice.
use crate::cells::{int_or_string, number};
use crate::check::{At, Report, numbers, selectors};
use crate::fields::{Fill, Read};
use api_meta::FieldErrors;
use api_resource::{Column, Names, Resource, STATUS, Subresource, WriteContext, text};
use serde_json::{Value, json};

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
    fn validate(new: &Value, _old: Option<&Value>) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let root = At::root(new);
        let spec = root.field("spec");
        let (available, unavailable) = (spec.field("minAvailable"), spec.field("maxUnavailable"));
        if available.is_set() && unavailable.is_set() {
            errors.invalid(&spec, "minAvailable and maxUnavailable cannot be both set");
        }
        for amount in [&available, &unavailable] {
            numbers::int_or_percent(&mut errors, amount);
            numbers::at_most_all(&mut errors, amount);
        }
        selectors::label_selector(&mut errors, &spec.field("selector"));
        errors.one_of_if_set(&spec.field("unhealthyPodEvictionPolicy"), &["AlwaysAllow", "IfHealthyBudget"]);
        errors
    }
    fn validate_part(_subresource: &str, new: &Value, _old: &Value) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let root = At::root(new);
        let status = root.field("status");
        numbers::all_non_negative(&mut errors, &status, &["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"]);
        errors
    }
    fn prepare_create(object: &mut Value, _context: &WriteContext) {
        object.put("status", json!({"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0}));
    }
}
