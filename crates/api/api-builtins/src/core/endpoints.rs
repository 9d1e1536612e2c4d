//! Endpoints: the addresses behind a Service, in the old form.
use crate::cells::{NONE, first_three, host_port};
use crate::fields::{Fill, Read};
use api_resource::{Column, Names, Resource, Row, text};
use serde_json::Value;

pub struct Endpoints;

impl Resource for Endpoints {
    const NAMES: Names = Names::with("", "v1", "Endpoints", "endpoints", "endpoints", const { &[text("ep")] }, &[]);
    const COLUMNS: &'static [Column] = &[Column::with("Endpoints", endpoints)];
    const GENERATION: bool = false;
    const CREATE_ON_UPDATE: bool = true;
    fn default(object: &mut Value) {
        for subset in object.each("subsets") {
            subset.each("ports").for_each(|port| port.zero("protocol", "TCP"));
        }
    }
}

fn endpoints(row: &Row) -> Value {
    let subsets = row.object["subsets"].list();
    let mut all = Vec::new();
    for subset in subsets {
        let addresses = || subset["addresses"].list().iter().map(|address| address["ip"].text());
        if subset["ports"].list().is_empty() {
            all.extend(addresses().map(str::to_owned));
        }
        for port in subset["ports"].list() {
            all.extend(addresses().map(|address| host_port(address, port["port"].int().unwrap_or_default())));
        }
    }
    first_three(&all, if subsets.is_empty() { NONE } else { "" }).into()
}
