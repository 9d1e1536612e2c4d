//! Lease: a claim that is held as long as it is renewed.
use crate::check::{At, Report};
use crate::fields::Read;
use api_meta::FieldErrors;
use api_resource::{Column, Names, Resource};
use serde_json::Value;

pub struct Leases;

impl Resource for Leases {
    const NAMES: Names = Names::new("coordination.k8s.io", "v1", "Lease", "leases", "lease");
    const COLUMNS: &'static [Column] = &[Column::with("Holder", |row| row.object["spec"]["holderIdentity"].text().into())];
    const GENERATION: bool = false;
    const CREATE_ON_UPDATE: bool = true;
    const UNCONDITIONAL_UPDATE: bool = false;
    fn validate(new: &Value, _old: Option<&Value>) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let root = At::root(new);
        let spec = root.field("spec");
        let (seconds, transitions) = (spec.field("leaseDurationSeconds"), spec.field("leaseTransitions"));
        if seconds.int().is_some_and(|seconds| seconds <= 0) {
            errors.invalid(&seconds, "must be greater than 0");
        }
        if transitions.int().is_some_and(|count| count < 0) {
            errors.invalid(&transitions, "must be greater than or equal to 0");
        }
        let strategy = spec.field("strategy");
        if strategy.is_set() && !strategy.text().contains('/') && strategy.text() != "OldestEmulationVersion" {
            errors.not_supported(&strategy, &["OldestEmulationVersion"]);
        }
        if spec["preferredHolder"].is_set() && strategy.text().is_empty() {
            errors.forbidden(&spec.field("preferredHolder"), "may only be specified if `strategy` is defined");
        }
        errors
    }
}
