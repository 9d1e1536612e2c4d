//! IngressClass: names the controller that serves an Ingress.
use crate::cells::NONE;
use crate::fields::{Fill, Read};
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
}

fn parameters(row: &Row) -> Value {
    let parameters = &row.object["spec"]["parameters"];
    match (parameters["kind"].text(), parameters["apiGroup"].text(), parameters["name"].text()) {
        _ if parameters.is_null() => NONE.into(),
        (kind, "", name) => format!("{kind}/{name}").into(),
        (kind, group, name) => format!("{kind}.{group}/{name}").into(),
    }
}
