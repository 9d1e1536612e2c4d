//! ReplicaSet: keeps a number of pods running.
use crate::apps::replica_status;
use crate::cells::{CONTAINERS, IMAGES, SELECTOR, number};
use crate::check::{At, Report, numbers};
use crate::fields::{Fill, selectable};
use crate::pod_spec::defaults;
use crate::pod_spec::template;
use crate::pod_spec::warnings;
use api_meta::FieldErrors;
use api_resource::{ALL, Column, Field, Names, Resource, SCALE, STATUS, Subresource, WriteContext, text};
use serde_json::{Value, json};

pub struct ReplicaSets;

impl Resource for ReplicaSets {
    const NAMES: Names = Names::with("apps", "v1", "ReplicaSet", "replicasets", "replicaset", const { &[text("rs")] }, ALL);
    const COLUMNS: &'static [Column] = &[
        Column::with("Desired", |row| number(&row.object["spec"]["replicas"])).integer(),
        Column::with("Current", |row| number(&row.object["status"]["replicas"])).integer(),
        Column::with("Ready", |row| number(&row.object["status"]["readyReplicas"])).integer(),
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ];
    const SUBRESOURCES: &'static [Subresource] = &[STATUS, SCALE];
    const FIELDS: &'static [Field] = &[selectable("status.replicas", "0")];
    fn default(object: &mut Value) {
        let spec = object.open("spec");
        spec.absent("replicas", 1);
        defaults::template(spec.open("template"));
    }
    fn validate(new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let root = At::root(new);
        let spec = root.field("spec");
        numbers::all_non_negative(&mut errors, &spec, &["replicas", "minReadySeconds"]);
        let selector = template::workload_selector(&mut errors, &spec, "replicaset");
        template::lasting(&mut errors, &spec.field("template"), selector.as_ref(), "ReplicaSet");
        if let Some(old) = old {
            errors.immutable(&spec.field("selector"), &old["spec"]["selector"]);
        }
        errors
    }
    fn validate_part(_subresource: &str, new: &Value, _old: &Value) -> FieldErrors {
        replica_status::replica_set(new)
    }
    fn prepare_create(object: &mut Value, _context: &WriteContext) {
        object.put("status", json!({"replicas": 0}));
    }
    fn warnings(new: &Value, _old: Option<&Value>) -> Vec<String> {
        warnings::pod_spec(new, "spec.template.spec")
    }
}
