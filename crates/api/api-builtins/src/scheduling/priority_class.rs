//! PriorityClass: a name for a pod priority.
use crate::cells::{AGE, UNSET, number, text_or};
use crate::fields::{Fill, Read};
use api_resource::{Column, Names, Resource, ResourceScope, text};
use serde_json::Value;

pub struct PriorityClasses;

impl Resource for PriorityClasses {
    const NAMES: Names = Names::with("scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses", "priorityclass", const { &[text("pc")] }, &[]);
    const SCOPE: ResourceScope = ResourceScope::Cluster;
    const COLUMNS: &'static [Column] = &[
        Column::NAME,
        Column::with("Value", |row| number(&row.object["value"])).integer(),
        Column::with("Global-Default", |row| row.object["globalDefault"].flag().into()).boolean(),
        AGE,
        Column::with("PreemptionPolicy", |row| text_or(&row.object["preemptionPolicy"], UNSET)),
    ];
    const OWN_COLUMNS: bool = true;
    fn default(object: &mut Value) {
        object.absent("preemptionPolicy", "PreemptLowerPriority");
    }
}
