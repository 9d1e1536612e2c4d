//! APIService: which server answers for a group and version.
use crate::cells::condition;
use crate::fields::{Fill, Read};
use api_resource::{Column, NameRule, Names, Resource, ResourceScope, Row, STATUS, Subresource, text};
use serde_json::Value;

pub struct APIServices;

impl Resource for APIServices {
    const NAMES: Names = Names::with("apiregistration.k8s.io", "v1", "APIService", "apiservices", "apiservice", &[], const { &[text("api-extensions")] });
    const SCOPE: ResourceScope = ResourceScope::Cluster;
    const COLUMNS: &'static [Column] = &[Column::with("Service", service), Column::with("Available", available)];
    const NAME_RULE: NameRule = NameRule::PathSegment;
    const SUBRESOURCES: &'static [Subresource] = &[STATUS];
    const GENERATION: bool = false;
    const UNCONDITIONAL_UPDATE: bool = false;
    fn default(object: &mut Value) {
        if let Some(service) = object.open("spec").child("service") {
            service.absent("port", 443);
        }
    }
}

fn service(row: &Row) -> Value {
    let service = &row.object["spec"]["service"];
    if service.is_null() { "Local".into() } else { format!("{}/{}", service["namespace"].text(), service["name"].text()).into() }
}

fn available(row: &Row) -> Value {
    match condition(row.object, "Available") {
        None => "Unknown".into(),
        Some(condition) if condition["status"] == "True" => "True".into(),
        Some(condition) => format!("{} ({})", condition["status"].text(), condition["reason"].text()).into(),
    }
}
