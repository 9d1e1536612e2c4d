//! Deployment: rolls out ReplicaSets.
use crate::apps::replica_status;
use crate::cells::{CONTAINERS, IMAGES, SELECTOR, number};
use crate::check::{At, Report, numbers};
use crate::fields::{Fill, Read};
use crate::pod_spec::defaults;
use crate::pod_spec::template;
use crate::pod_spec::warnings;
use api_meta::FieldErrors;
use api_resource::{ALL, Column, Names, Resource, SCALE, STATUS, Subresource, WriteContext, text};
use serde_json::{Value, json};

pub struct Deployments;

impl Resource for Deployments {
    const NAMES: Names = Names::with("apps", "v1", "Deployment", "deployments", "deployment", const { &[text("deploy")] }, ALL);
    const COLUMNS: &'static [Column] = &[
        Column::with("Ready", |row| format!("{}/{}", number(&row.object["status"]["readyReplicas"]), number(&row.object["spec"]["replicas"])).into()),
        Column::with("Up-to-date", |row| number(&row.object["status"]["updatedReplicas"])),
        Column::with("Available", |row| number(&row.object["status"]["availableReplicas"])),
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ];
    const SUBRESOURCES: &'static [Subresource] = &[STATUS, SCALE];
    fn default(object: &mut Value) {
        let spec = object.open("spec");
        spec.absent("replicas", 1);
        let strategy = spec.open("strategy");
        strategy.zero("type", "RollingUpdate");
        if strategy["type"] == "RollingUpdate" {
            let update = strategy.open("rollingUpdate");
            update.absent("maxUnavailable", "25%");
            update.absent("maxSurge", "25%");
        }
        spec.absent("revisionHistoryLimit", 10);
        spec.absent("progressDeadlineSeconds", 600);
        defaults::template(spec.open("template"));
    }
    fn validate(new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let root = At::root(new);
        let spec = root.field("spec");
        numbers::all_non_negative(&mut errors, &spec, &["replicas", "minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"]);
        let selector = template::workload_selector(&mut errors, &spec, "deployment");
        template::lasting(&mut errors, &spec.field("template"), selector.as_ref(), "ReplicaSet");
        strategy(&mut errors, &spec.field("strategy"));
        let deadline = spec.field("progressDeadlineSeconds");
        if deadline.int().is_some_and(|seconds| seconds <= spec["minReadySeconds"].int().unwrap_or_default()) {
            errors.invalid(&deadline, "must be greater than minReadySeconds");
        }
        if let Some(old) = old {
            errors.immutable(&spec.field("selector"), &old["spec"]["selector"]);
        }
        errors
    }
    fn validate_part(_subresource: &str, new: &Value, old: &Value) -> FieldErrors {
        replica_status::deployment(new, old)
    }
    fn prepare_create(object: &mut Value, _context: &WriteContext) {
        object.put("status", json!({}));
    }
    fn warnings(new: &Value, _old: Option<&Value>) -> Vec<String> {
        warnings::pod_spec(new, "spec.template.spec")
    }
}

fn strategy(errors: &mut FieldErrors, strategy: &At) {
    let (kind, update) = (strategy.field("type"), strategy.field("rollingUpdate"));
    match kind.text() {
        "Recreate" if update.is_set() => errors.forbidden(&update, "may not be specified when strategy `type` is 'Recreate'"),
        "Recreate" => {}
        "RollingUpdate" => {
            let (unavailable, surge) = (update.field("maxUnavailable"), update.field("maxSurge"));
            numbers::int_or_percent(errors, &unavailable);
            numbers::int_or_percent(errors, &surge);
            if numbers::is_nothing(&unavailable) && numbers::is_nothing(&surge) {
                errors.invalid(&unavailable, "may not be 0 when `maxSurge` is 0");
            }
            numbers::at_most_all(errors, &unavailable);
        }
        _ => errors.not_supported(&kind, &["Recreate", "RollingUpdate"]),
    }
}
