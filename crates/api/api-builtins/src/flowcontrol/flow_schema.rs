//! FlowSchema: which requests belong to which priority level.
use crate::cells::{AGE, NONE, condition, number, text_or};
use crate::check::{At, Report};
use crate::fields::{Fill, Read};
use crate::flowcontrol::{mandatory, rules};
use api_meta::{FieldErrors, names};
use api_resource::{Column, Names, Resource, ResourceScope, STATUS, Subresource, WriteContext};
use serde_json::{Value, json};

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
    fn validate(new: &Value, _old: Option<&Value>) -> FieldErrors {
        const MOST: i64 = 10_000;
        let mut errors = FieldErrors::new();
        let root = At::root(new);
        let spec = root.field("spec");
        let (precedence, level) = (spec.field("matchingPrecedence"), spec.field("priorityLevelConfiguration.name"));
        match precedence.int().unwrap_or_default() {
            ..=0 => errors.invalid(&precedence, "must be a positive value"),
            number if number > MOST => errors.invalid(&precedence, format!("must not be greater than {MOST}")),
            1 if new["metadata"]["name"] != "exempt" => errors.invalid(&precedence, "only the schema named 'exempt' may have matchingPrecedence 1"),
            _ => {}
        }
        if level.text().is_empty() {
            errors.required(&level, "must reference a priority level");
        } else {
            errors.reasons(&level, names::dns1123_subdomain(level.text()));
        }
        errors.one_of_if_set(&spec.field("distinguisherMethod.type"), &["ByNamespace", "ByUser"]);
        spec.field("rules").items().for_each(|rule| rules::rule(&mut errors, &rule));
        mandatory(&mut errors, &spec, new["metadata"]["name"].text(), "FlowSchema");
        errors
    }
    fn prepare_create(object: &mut Value, _context: &WriteContext) {
        object.put("status", json!({}));
    }
}
