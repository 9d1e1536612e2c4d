//! ReplicaSet: keeps a number of pods running.
use crate::cells::{CONTAINERS, IMAGES, SELECTOR, number};
use crate::fields::{Fill, selectable};
use crate::pod_spec::defaults;
use api_resource::{ALL, Column, Field, Names, Resource, SCALE, STATUS, Subresource, text};
use serde_json::Value;

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
}
