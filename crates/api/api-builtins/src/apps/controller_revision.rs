//! ControllerRevision: a snapshot of a controller's template.
use crate::cells::{NONE, number};
use crate::check::{At, Report, numbers};
use crate::fields::Read;
use api_meta::FieldErrors;
use api_resource::{Column, Names, Resource, Row};
use serde_json::Value;

pub struct ControllerRevisions;

impl Resource for ControllerRevisions {
    const NAMES: Names = Names::new("apps", "v1", "ControllerRevision", "controllerrevisions", "controllerrevision");
    const COLUMNS: &'static [Column] = &[Column::with("Controller", controller), Column::with("Revision", |row| number(&row.object["revision"]))];
    const GENERATION: bool = false;
    fn validate(new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let root = At::root(new);
        if new["data"].is_null() {
            errors.required(&root.field("data"), "data is mandatory");
        }
        numbers::non_negative(&mut errors, &root.field("revision"));
        if let Some(old) = old {
            errors.immutable(&root.field("data"), &old["data"]);
        }
        errors
    }
}

fn controller(row: &Row) -> Value {
    let Some(owner) = row.object["metadata"]["ownerReferences"].list().iter().find(|owner| owner["controller"].flag()) else { return NONE.into() };
    let (group, _) = api_meta::split_api_version(owner["apiVersion"].text());
    let kind = owner["kind"].text().to_lowercase();
    let qualified = if group.is_empty() { kind } else { format!("{kind}.{group}") };
    format!("{qualified}/{}", owner["name"].text()).into()
}
