//! IPAddress: an address in use by a Service.
use crate::cells::NONE;
use crate::check::{At, Report};
use crate::fields::Read;
use api_meta::{FieldErrors, names};
use api_resource::{Column, NameRule, Names, Resource, ResourceScope, Row, text};
use serde_json::Value;

pub struct IPAddresses;

impl Resource for IPAddresses {
    const NAMES: Names = Names::with("networking.k8s.io", "v1", "IPAddress", "ipaddresses", "ipaddress", const { &[text("ip")] }, &[]);
    const SCOPE: ResourceScope = ResourceScope::Cluster;
    // The addresses of IPv6 are no DNS names; what is one is looked at below.
    const NAME_RULE: NameRule = NameRule::PathSegment;
    const COLUMNS: &'static [Column] = &[Column::NAME, Column::with("ParentRef", parent)];
    const OWN_COLUMNS: bool = true;
    const GENERATION: bool = false;
    fn validate(new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let root = At::root(new);
        let name = root.field("metadata.name");
        if !name.text().parse::<std::net::IpAddr>().is_ok_and(|address| address.to_string() == name.text()) {
            errors.invalid(&name, "must be a valid IP address in canonical form");
        }
        let parent = root.field("spec.parentRef");
        if parent.is_null() {
            errors.required(&parent, "");
        } else {
            errors.named_if_set(&parent.field("group"), names::dns1123_subdomain);
            errors.named(&parent.field("resource"), names::path_segment);
            errors.named(&parent.field("name"), names::path_segment);
            errors.named_if_set(&parent.field("namespace"), names::path_segment);
        }
        if let Some(old) = old {
            errors.immutable(&parent, &old["spec"]["parentRef"]);
        }
        errors
    }
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
