//! APIService: which server answers for a group and version.
use crate::cells::condition;
use crate::check::{At, Report, network};
use crate::fields::{Fill, Read};
use api_meta::{FieldErrors, names};
use api_resource::{Column, NameRule, Names, Resource, ResourceScope, Row, STATUS, Subresource, WriteContext, text};
use serde_json::{Value, json};

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
    fn validate(new: &Value, _old: Option<&Value>) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let root = At::root(new);
        let spec = root.field("spec");
        let (group, version, service) = (spec.field("group"), spec.field("version"), spec.field("service"));
        let wanted = format!("{}.{}", version.text(), group.text());
        let name = root.field("metadata.name");
        if name.text() != wanted {
            errors.invalid(&name, format!("must be `spec.version+\".\"+spec.group`: {wanted:?}"));
        }
        if group.text().is_empty() {
            if version.text() != "v1" {
                errors.required(&group, "only v1 may have an empty group and it better be legacy kube");
            }
        } else {
            errors.reasons(&group, names::dns1123_subdomain(group.text()));
        }
        errors.reasons(&version, names::dns1035_label(version.text()));
        for (field, most) in [("groupPriorityMinimum", 20_000), ("versionPriority", 1000)] {
            let priority = spec.field(field);
            if !(1..=most).contains(&priority.int().unwrap_or_default()) {
                errors.invalid_as(&priority, priority.int().unwrap_or_default(), format!("must be positive and less than {most}"));
            }
        }
        let (bundle, insecure) = (spec.field("caBundle"), spec.field("insecureSkipTLSVerify"));
        if service.is_null() {
            if !bundle.text().is_empty() {
                errors.invalid_as(&bundle, "<CA data>", "local APIServices may not have a caBundle");
            }
            if insecure.flag() {
                errors.invalid(&insecure, "local APIServices may not have insecureSkipTLSVerify");
            }
            return errors;
        }
        for field in ["namespace", "name"] {
            errors.present(&service.field(field));
        }
        network::port(&mut errors, &service.field("port"));
        if insecure.flag() && !bundle.text().is_empty() {
            errors.invalid(&insecure, "may not be true if caBundle is present");
        }
        errors
    }
    fn prepare_create(object: &mut Value, _context: &WriteContext) {
        object.put("status", json!({}));
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
