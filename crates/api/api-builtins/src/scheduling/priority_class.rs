//! PriorityClass: a name for a pod priority.
use crate::cells::{AGE, UNSET, number, text_or};
use crate::check::{At, Report};
use crate::fields::{Fill, Read};
use api_meta::FieldErrors;
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
    fn validate(new: &Value, old: Option<&Value>) -> FieldErrors {
        const MOST: i64 = 1_000_000_000;
        let mut errors = FieldErrors::new();
        let root = At::root(new);
        let (name, value) = (new["metadata"]["name"].text(), new["value"].int().unwrap_or_default());
        let system = SYSTEM_CLASSES.iter().find(|(class, _)| *class == name);
        if name.starts_with("system-") && system.is_none_or(|(_, known)| *known != value) {
            let why = match system {
                None => format!("{name} is not a known system priority class"),
                Some((_, known)) => format!("value of {name} PriorityClass must be {known}"),
            };
            errors
                .forbidden(&root.field("metadata.name"), format!("priority class names with 'system-' prefix are reserved for system use only. error: {why}"));
        }
        if system.is_none() && value > MOST {
            errors.forbidden(&root.field("value"), format!("maximum allowed value of a user defined priority is {MOST}"));
        }
        errors.one_of_if_set(&root.field("preemptionPolicy"), &["PreemptLowerPriority", "Never"]);
        if let Some(old) = old {
            if new["value"] != old["value"] {
                errors.forbidden(&root.field("value"), "may not be changed in an update.");
            }
            errors.immutable(&root.field("preemptionPolicy"), &old["preemptionPolicy"]);
        }
        errors
    }
}

const SYSTEM_CLASSES: &[(&str, i64)] = &[("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)];
