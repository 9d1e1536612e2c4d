//! ControllerRevision: a snapshot of a controller's template.
use crate::cells::{NONE, number};
use crate::fields::Read;
use api_resource::{Column, Names, Resource, Row};
use serde_json::Value;

pub struct ControllerRevisions;

impl Resource for ControllerRevisions {
    const NAMES: Names = Names::new("apps", "v1", "ControllerRevision", "controllerrevisions", "controllerrevision");
    const COLUMNS: &'static [Column] = &[Column::with("Controller", controller), Column::with("Revision", |row| number(&row.object["revision"]))];
    const GENERATION: bool = false;
}

fn controller(row: &Row) -> Value {
    let Some(owner) = row.object["metadata"]["ownerReferences"].list().iter().find(|owner| owner["controller"].flag()) else { return NONE.into() };
    let (group, _) = api_meta::split_api_version(owner["apiVersion"].text());
    let kind = owner["kind"].text().to_lowercase();
    let qualified = if group.is_empty() { kind } else { format!("{kind}.{group}") };
    format!("{qualified}/{}", owner["name"].text()).into()
}
