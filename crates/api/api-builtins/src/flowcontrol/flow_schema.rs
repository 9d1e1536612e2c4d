//! FlowSchema: which requests belong to which priority level.
use crate::cells::{AGE, NONE, condition, number, text_or};
use crate::check::{At, Report};
use crate::fields::{Fill, Read};
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
        let rules = spec.field("rules");
        for rule in rules.items() {
            let (subjects, on_resources, on_paths) = (rule.field("subjects"), rule.field("resourceRules"), rule.field("nonResourceRules"));
            if subjects.list().is_empty() {
                errors.required(&subjects, "subjects must contain at least one value");
            }
            for subject in subjects.items() {
                errors.one_of(&subject.field("kind"), &["Group", "ServiceAccount", "User"]);
            }
            if on_resources.list().is_empty() && on_paths.list().is_empty() {
                errors.required(&rule, "at least one of resourceRules and nonResourceRules has to be non-empty");
            }
            for resource_rule in on_resources.items() {
                for (field, what) in [
                    ("verbs", "verbs must contain at least one value"),
                    ("apiGroups", "resource rules must supply at least one api group"),
                    ("resources", "resource rules must supply at least one resource"),
                ] {
                    if resource_rule[field].list().is_empty() {
                        errors.required(&resource_rule.field(field), what);
                    }
                }
                if resource_rule["namespaces"].list().is_empty() && !resource_rule["clusterScope"].flag() {
                    errors.required(&resource_rule.field("namespaces"), "resource rules that are not cluster scoped must supply at least one namespace");
                }
            }
        }
        errors
    }
    fn prepare_create(object: &mut Value, _context: &WriteContext) {
        object.put("status", json!({}));
    }
}
