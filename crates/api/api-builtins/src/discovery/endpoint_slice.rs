//! EndpointSlice: some of the endpoints of a Service.
use crate::cells::{UNSET, first_three};
use crate::fields::{Fill, Read};
use api_resource::{Column, Names, Resource, Row};
use serde_json::Value;

pub struct EndpointSlices;

impl Resource for EndpointSlices {
    const NAMES: Names = Names::new("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", "endpointslice");
    const COLUMNS: &'static [Column] = &[Column::path("AddressType", ".addressType"), Column::with("Ports", ports), Column::with("Endpoints", endpoints)];
    fn default(object: &mut Value) {
        for port in object.each("ports") {
            port.absent("name", "");
            port.absent("protocol", "TCP");
        }
    }
}

fn ports(row: &Row) -> Value {
    let ports: Vec<String> = row.object["ports"]
        .list()
        .iter()
        .map(|port| match (port["port"].int(), port["name"].as_str()) {
            (Some(number), _) => number.to_string(),
            (None, Some(name)) => name.to_owned(),
            (None, None) => "*".to_owned(),
        })
        .collect();
    first_three(&ports, UNSET).into()
}

fn endpoints(row: &Row) -> Value {
    let addresses: Vec<String> = row.object["endpoints"].list().iter().flat_map(|endpoint| endpoint["addresses"].texts()).map(str::to_owned).collect();
    first_three(&addresses, UNSET).into()
}
