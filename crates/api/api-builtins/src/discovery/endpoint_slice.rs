//! EndpointSlice: some of the endpoints of a Service.
use crate::cells::{UNSET, first_three};
use crate::check::{At, Report, metadata, network};
use crate::fields::{Fill, Read};
use api_meta::{FieldErrors, names};
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
    fn validate(new: &Value, old: Option<&Value>) -> FieldErrors {
        const MOST_ENDPOINTS: usize = 1000;
        const MOST_PORTS: usize = 20_000;
        let mut errors = FieldErrors::new();
        let root = At::root(new);
        let (kind, endpoints, ports) = (root.field("addressType"), root.field("endpoints"), root.field("ports"));
        errors.one_of(&kind, &["FQDN", "IPv4", "IPv6"]);
        if let Some(old) = old {
            errors.immutable(&kind, &old["addressType"]);
        }
        if endpoints.list().len() > MOST_ENDPOINTS {
            errors.too_many(&endpoints, endpoints.list().len(), MOST_ENDPOINTS);
        }
        for endpoint in endpoints.items() {
            addresses(&mut errors, &endpoint.field("addresses"), kind.text());
            errors.named_if_set(&endpoint.field("nodeName"), names::dns1123_subdomain);
            errors.named_if_set(&endpoint.field("hostname"), names::dns1123_label);
            let topology = endpoint.field("deprecatedTopology");
            metadata::labels(&mut errors, &topology);
        }
        if ports.list().len() > MOST_PORTS {
            errors.too_many(&ports, ports.list().len(), MOST_PORTS);
        }
        for (index, port) in ports.items().enumerate() {
            let name = port.field("name");
            errors.named_if_set(&name, names::dns1123_label);
            if ports.list()[..index].iter().any(|other| other["name"].text() == name.text()) {
                errors.duplicate_as(&name, name.text());
            }
            errors.one_of(&port.field("protocol"), network::PROTOCOLS);
            if port["port"].is_set() {
                network::port(&mut errors, &port.field("port"));
            }
            errors.named_if_set(&port.field("appProtocol"), names::qualified_name);
        }
        errors
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

fn addresses(errors: &mut FieldErrors, addresses: &At, kind: &str) {
    const MOST: usize = 100;
    match addresses.list().len() {
        0 => errors.required(addresses, "must contain at least 1 address"),
        count if count > MOST => errors.too_many(addresses, count, MOST),
        _ => {}
    }
    for address in addresses.items() {
        if kind == "FQDN" {
            errors.reasons(&address, names::dns1123_subdomain(address.text()));
            continue;
        }
        match (kind, address.text().parse::<std::net::IpAddr>()) {
            ("IPv4", Ok(std::net::IpAddr::V6(_))) | ("IPv4", Err(_)) => errors.invalid(&address, "must be a valid IPv4 address"),
            ("IPv6", Ok(std::net::IpAddr::V4(_))) | ("IPv6", Err(_)) => errors.invalid(&address, "must be a valid IPv6 address"),
            (_, Ok(_)) => network::routable(errors, &address),
            _ => {}
        }
    }
}
