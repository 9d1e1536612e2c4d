//! IngressClass: names the controller that serves an Ingress.
use crate::cells::NONE;
use crate::check::{At, Report, names::domain_prefixed_path};
use crate::fields::{Fill, Read};
use api_meta::{FieldErrors, names};
use api_resource::{Column, Names, Resource, ResourceScope, Row};
use serde_json::Value;

pub struct IngressClasses;

impl Resource for IngressClasses {
    const NAMES: Names = Names::new("networking.k8s.io", "v1", "IngressClass", "ingressclasses", "ingressclass");
    const SCOPE: ResourceScope = ResourceScope::Cluster;
    const COLUMNS: &'static [Column] = &[Column::path("Controller", ".spec.controller"), Column::with("Parameters", parameters)];
    fn default(object: &mut Value) {
        if let Some(parameters) = object.open("spec").child("parameters") {
            parameters.absent("scope", "Cluster");
        }
    }
    fn validate(new: &Value, old: Option<&Value>) -> FieldErrors {
        const LONGEST_CONTROLLER: usize = 250;
        let mut errors = FieldErrors::new();
        let root = At::root(new);
        let (controller, parameters) = (root.field("spec.controller"), root.field("spec.parameters"));
        if controller.text().len() > LONGEST_CONTROLLER {
            errors.too_long(&controller, LONGEST_CONTROLLER);
        }
        errors.named(&controller, domain_prefixed_path);
        if let Some(old) = old {
            errors.immutable(&controller, &old["spec"]["controller"]);
        }
        if parameters.is_set() {
            errors.named_if_set(&parameters.field("apiGroup"), names::dns1123_subdomain);
            errors.named(&parameters.field("kind"), names::path_segment);
            errors.named(&parameters.field("name"), names::path_segment);
            let (scope, namespace) = (parameters.field("scope"), parameters.field("namespace"));
            errors.one_of(&scope, &["Cluster", "Namespace"]);
            match scope.text() {
                "Namespace" if namespace.is_null() => errors.required(&namespace, "`parameters.scope` is set to 'Namespace'"),
                "Namespace" => errors.reasons(&namespace, names::dns1123_label(namespace.text())),
                "Cluster" if namespace.is_set() => errors.forbidden(&namespace, "`parameters.scope` is set to 'Cluster'"),
                _ => {}
            }
        }
        errors
    }
}

fn parameters(row: &Row) -> Value {
    let parameters = &row.object["spec"]["parameters"];
    match (parameters["kind"].text(), parameters["apiGroup"].text(), parameters["name"].text()) {
        _ if parameters.is_null() => NONE.into(),
        (kind, "", name) => format!("{kind}/{name}").into(),
        (kind, group, name) => format!("{kind}.{group}/{name}").into(),
    }
}
