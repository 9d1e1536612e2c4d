//! FlowSchema: which requests belong to which priority level.
use crate::cells::{AGE, NONE, condition, number, text_or};
use crate::fields::Fill;
use api_resource::{Column, Names, Resource, ResourceScope, STATUS, Subresource};
use serde_json::Value;

pub struct FlowSchemas;

impl Resource for FlowSchemas {
    const NAMES: Names = Names::new("flowcontrol.apiserver.k8s.io", "v1", "FlowSchema", "flowschemas", "flowschema");
    const SCOPE: ResourceScope = ResourceScope::Cluster;
    const COLUMNS: &'static [Column] = &[
        Column::NAME,
        Column::path("PriorityLevel", ".spec.priorityLevelConfiguration.name"),
        Column::with("MatchingPrecedence", |row| number(&row.object["spec"]["matchingPrecedence"])),
        Column::with("DistinguisherMethod", |row| text_or(&row.object["spec"]["distinguisherMethod"]["type"], NONE)),
        AGE,
        Column::with("MissingPL", |row| condition(row.object, "Dangling").map_or("?".into(), |dangling| dangling["status"].clone())),
    ];
    const OWN_COLUMNS: bool = true;
    const SUBRESOURCES: &'static [Subresource] = &[STATUS];
    fn default(object: &mut Value) {
        object.open("spec").zero("matchingPrecedence", 1000);
    }
}
