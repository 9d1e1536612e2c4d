//! IPAddress: an address in use by a Service.
use crate::cells::NONE;
use crate::fields::Read;
use api_resource::{Column, Names, Resource, ResourceScope, Row, text};
use serde_json::Value;

pub struct IPAddresses;

impl Resource for IPAddresses {
    const NAMES: Names = Names::with("networking.k8s.io", "v1", "IPAddress", "ipaddresses", "ipaddress", const { &[text("ip")] }, &[]);
    const SCOPE: ResourceScope = ResourceScope::Cluster;
    const COLUMNS: &'static [Column] = &[Column::NAME, Column::with("ParentRef", parent)];
    const OWN_COLUMNS: bool = true;
    const GENERATION: bool = false;
}

fn parent(row: &Row) -> Value {
    let parent = &row.object["spec"]["parentRef"];
    if parent.is_null() {
        return NONE.into();
    }
    let resource = match parent["group"].text() {
        "" => parent["resource"].text().to_owned(),
        group => format!("{}.{group}", parent["resource"].text()),
    };
    [resource.as_str(), parent["namespace"].text(), parent["name"].text()].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/").into()
}
