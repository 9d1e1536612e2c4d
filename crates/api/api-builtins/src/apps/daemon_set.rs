//! DaemonSet: a pod on every node.
use crate::cells::{CONTAINERS, IMAGES, SELECTOR, labels, number};
use crate::check::{At, Report, numbers};
use crate::fields::{Fill, Read};
use crate::pod_spec::defaults;
use crate::pod_spec::template;
use crate::pod_spec::warnings;
use api_meta::FieldErrors;
use api_resource::{ALL, Column, Names, Resource, STATUS, Subresource, WriteContext, text};
use serde_json::{Value, json};

pub struct DaemonSets;

impl Resource for DaemonSets {
    const NAMES: Names = Names::with("apps", "v1", "DaemonSet", "daemonsets", "daemonset", const { &[text("ds")] }, ALL);
    const COLUMNS: &'static [Column] = &[
        Column::with("Desired", |row| number(&row.object["status"]["desiredNumberScheduled"])).integer(),
        Column::with("Current", |row| number(&row.object["status"]["currentNumberScheduled"])).integer(),
        Column::with("Ready", |row| number(&row.object["status"]["numberReady"])).integer(),
        Column::with("Up-to-date", |row| number(&row.object["status"]["updatedNumberScheduled"])).integer(),
        Column::with("Available", |row| number(&row.object["status"]["numberAvailable"])).integer(),
        Column::with("Node Selector", |row| labels(&row.object["spec"]["template"]["spec"]["nodeSelector"]).into()),
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ];
    const SUBRESOURCES: &'static [Subresource] = &[STATUS];
    fn default(object: &mut Value) {
        let spec = object.open("spec");
        let strategy = spec.open("updateStrategy");
        strategy.zero("type", "RollingUpdate");
        if strategy["type"] == "RollingUpdate" {
            let update = strategy.open("rollingUpdate");
            update.absent("maxUnavailable", 1);
            update.absent("maxSurge", 0);
        }
        spec.absent("revisionHistoryLimit", 10);
        defaults::template(spec.open("template"));
    }
    fn validate(new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let root = At::root(new);
        let spec = root.field("spec");
        numbers::all_non_negative(&mut errors, &spec, &["minReadySeconds", "revisionHistoryLimit"]);
        let selector = template::workload_selector(&mut errors, &spec, "daemonset");
        template::lasting(&mut errors, &spec.field("template"), selector.as_ref(), "DaemonSet");
        update_strategy(&mut errors, &spec.field("updateStrategy"));
        if let Some(old) = old {
            errors.immutable(&spec.field("selector"), &old["spec"]["selector"]);
        }
        errors
    }
    fn prepare_create(object: &mut Value, _context: &WriteContext) {
        object.put("status", json!({"currentNumberScheduled": 0, "desiredNumberScheduled": 0, "numberMisscheduled": 0, "numberReady": 0}));
    }
    fn warnings(new: &Value, _old: Option<&Value>) -> Vec<String> {
        warnings::pod_spec(new, "spec.template.spec")
    }
}

fn update_strategy(errors: &mut FieldErrors, strategy: &At) {
    let kind = strategy.field("type");
    match kind.text() {
        "OnDelete" => {}
        "RollingUpdate" => {
            let (unavailable, surge) = (strategy.field("rollingUpdate.maxUnavailable"), strategy.field("rollingUpdate.maxSurge"));
            for amount in [&unavailable, &surge] {
                numbers::int_or_percent(errors, amount);
                numbers::at_most_all(errors, amount);
            }
            match (numbers::is_nothing(&unavailable), numbers::is_nothing(&surge)) {
                (true, true) => errors.required(&unavailable, "cannot be 0 when maxSurge is 0"),
                (false, false) => errors.invalid(&surge, "may not be set when maxUnavailable is non-zero"),
                _ => {}
            }
        }
        _ => errors.not_supported(&kind, &["RollingUpdate", "OnDelete"]),
    }
}
