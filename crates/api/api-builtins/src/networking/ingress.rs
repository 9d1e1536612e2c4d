//! Ingress: HTTP routes to Services.
use crate::cells::{NONE, first_three, load_balancer, text_or};
use crate::fields::{Fill, Read};
use crate::networking::ingress_rules;
use api_meta::FieldErrors;
use api_resource::{Column, Names, Resource, Row, STATUS, Subresource, WriteContext, text};
use serde_json::{Value, json};

pub struct Ingresses;

impl Resource for Ingresses {
    const NAMES: Names = Names::with("networking.k8s.io", "v1", "Ingress", "ingresses", "ingress", const { &[text("ing")] }, &[]);
    const COLUMNS: &'static [Column] = &[
        Column::with("Class", |row| text_or(&row.object["spec"]["ingressClassName"], NONE)),
        Column::with("Hosts", hosts),
        Column::with("Address", |row| load_balancer(&row.object["status"]).into()),
        Column::with("Ports", |row| if row.object["spec"]["tls"].list().is_empty() { "80" } else { "80, 443" }.into()),
    ];
    const SUBRESOURCES: &'static [Subresource] = &[STATUS];
    fn default(object: &mut Value) {
        object.open("spec");
        object.open("status").open("loadBalancer");
    }
    fn validate(new: &Value, old: Option<&Value>) -> FieldErrors {
        ingress_rules::ingress(new, old)
    }
    fn prepare_create(object: &mut Value, _context: &WriteContext) {
        object.put("status", json!({"loadBalancer": {}}));
    }
}

fn hosts(row: &Row) -> Value {
    let hosts: Vec<String> = row.object["spec"]["rules"].list().iter().map(|rule| rule["host"].text().to_owned()).filter(|host| !host.is_empty()).collect();
    first_three(&hosts, "*").into()
}
