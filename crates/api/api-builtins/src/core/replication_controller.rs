//! ReplicationController: keeps a number of pods running (the elder of ReplicaSet).
use crate::cells::{CONTAINERS, IMAGES, labels, number};
use crate::check::{At, Report, numbers, selectors};
use crate::fields::{Fill, Read, selectable};
use crate::pod_spec::defaults;
use crate::pod_spec::template;
use crate::pod_spec::warnings;
use api_meta::FieldErrors;
use api_resource::{ALL, Column, Field, Names, Resource, SCALE, STATUS, Subresource, WriteContext, text};
use serde_json::{Value, json};

pub struct ReplicationControllers;

impl Resource for ReplicationControllers {
    const NAMES: Names = Names::with("", "v1", "ReplicationController", "replicationcontrollers", "replicationcontroller", const { &[text("rc")] }, ALL);
    const COLUMNS: &'static [Column] = &[
        Column::with("Desired", |row| number(&row.object["spec"]["replicas"])).integer(),
        Column::with("Current", |row| number(&row.object["status"]["replicas"])).integer(),
        Column::with("Ready", |row| number(&row.object["status"]["readyReplicas"])).integer(),
        CONTAINERS,
        IMAGES,
        Column::with("Selector", |row| labels(&row.object["spec"]["selector"]).into()).wide(),
    ];
    const SUBRESOURCES: &'static [Subresource] = &[STATUS, SCALE];
    const FIELDS: &'static [Field] = &[selectable("status.replicas", "0")];
    const ORPHANS_BY_DEFAULT: bool = true;
    fn default(object: &mut Value) {
        let labels = object["spec"]["template"]["metadata"]["labels"].clone();
        if !labels.is_zero() {
            object.open("spec").zero("selector", labels.clone());
            object.open("metadata").zero("labels", labels);
        }
        let spec = object.open("spec");
        spec.absent("replicas", 1);
        if let Some(template) = spec.child("template") {
            defaults::template(template);
        }
    }
    fn validate(new: &Value, _old: Option<&Value>) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let root = At::root(new);
        let spec = root.field("spec");
        numbers::all_non_negative(&mut errors, &spec, &["minReadySeconds", "replicas"]);
        let selector = spec.field("selector");
        if selector.is_zero() {
            errors.required(&selector, "");
        }
        let template = spec.field("template");
        if template.is_null() {
            errors.required(&template, "");
        } else {
            template::lasting(&mut errors, &template, Some(&selectors::parse_map(selector.value())), "ReplicationController");
        }
        errors
    }
    fn prepare_create(object: &mut Value, _context: &WriteContext) {
        object.put("status", json!({"replicas": 0}));
    }
    fn warnings(new: &Value, _old: Option<&Value>) -> Vec<String> {
        warnings::pod_spec(new, "spec.template.spec")
    }
}
