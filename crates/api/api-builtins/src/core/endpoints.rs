//! Endpoints: the addresses behind a Service, in the old form.
use crate::cells::{NONE, first_three, host_port};
use crate::check::{At, Report, network};
use crate::fields::{Fill, Read};
use api_meta::{FieldErrors, names};
use api_resource::{Column, Names, Resource, Row, text};
use serde_json::Value;

pub struct Endpoints;

impl Resource for Endpoints {
    const NAMES: Names = Names::with("", "v1", "Endpoints", "endpoints", "endpoints", const { &[text("ep")] }, &[]);
    const COLUMNS: &'static [Column] = &[Column::with("Endpoints", endpoints)];
    const GENERATION: bool = false;
    const DEPRECATION: Option<&'static str> = Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice");
    const CREATE_ON_UPDATE: bool = true;
    fn default(object: &mut Value) {
        for subset in object.each("subsets") {
            subset.each("ports").for_each(|port| port.zero("protocol", "TCP"));
        }
    }
    fn validate(new: &Value, _old: Option<&Value>) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let root = At::root(new);
        let subsets = root.field("subsets");
        for subset in subsets.items() {
            if subset["addresses"].list().is_empty() && subset["notReadyAddresses"].list().is_empty() {
                errors.required(&subset, "must specify `addresses` or `notReadyAddresses`");
            }
            for list in ["addresses", "notReadyAddresses"] {
                let list = subset.field(list);
                for address in list.items() {
                    network::routable(&mut errors, &address.field("ip"));
                    errors.named_if_set(&address.field("hostname"), names::dns1123_label);
                    errors.named_if_set(&address.field("nodeName"), names::dns1123_subdomain);
                }
            }
            let ports = subset.field("ports");
            for port in ports.items() {
                if ports.list().len() > 1 {
                    errors.named(&port.field("name"), names::dns1123_label);
                } else {
                    errors.named_if_set(&port.field("name"), names::dns1123_label);
                }
                network::port(&mut errors, &port.field("port"));
                errors.one_of(&port.field("protocol"), network::PROTOCOLS);
                errors.named_if_set(&port.field("appProtocol"), names::qualified_name);
            }
        }
        errors
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
