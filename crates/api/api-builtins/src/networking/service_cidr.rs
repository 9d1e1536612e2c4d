//! ServiceCIDR: a range that Service addresses come from.
use crate::check::{At, Report, network};
use crate::fields::{Fill, Read};
use api_meta::FieldErrors;
use api_resource::{Column, Names, Resource, ResourceScope, STATUS, Subresource, WriteContext};
use serde_json::{Value, json};

pub struct ServiceCIDRs;

impl Resource for ServiceCIDRs {
    const NAMES: Names = Names::new("networking.k8s.io", "v1", "ServiceCIDR", "servicecidrs", "servicecidr");
    const SCOPE: ResourceScope = ResourceScope::Cluster;
    const COLUMNS: &'static [Column] = &[Column::with("CIDRs", |row| row.object["spec"]["cidrs"].texts().collect::<Vec<_>>().join(",").into())];
    const SUBRESOURCES: &'static [Subresource] = &[STATUS];
    const GENERATION: bool = false;
    fn validate(new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let root = At::root(new);
        let ranges = root.field("spec.cidrs");
        if ranges.list().is_empty() {
            errors.required(&ranges, "at least one CIDR required");
        }
        let families: Vec<bool> = ranges.items().filter_map(|range| network::cidr(&mut errors, &range)).map(|range| range.addr().is_ipv4()).collect();
        network::one_of_each_family(&mut errors, &ranges, &families, "may specify no more than one IP for each IP family");
        if let Some(old) = old {
            changed(&mut errors, &ranges, old["spec"]["cidrs"].list());
        }
        errors
    }
    fn prepare_create(object: &mut Value, _context: &WriteContext) {
        object.put("status", json!({}));
    }
}

/// A range of a second family may be added; nothing else may change.
fn changed(errors: &mut FieldErrors, ranges: &At, old: &[Value]) {
    const IMMUTABLE: &str = "field is immutable";
    let new = ranges.list();
    if new.len() != old.len() && (old.len(), new.len()) != (1, 2) {
        return errors.invalid(ranges, IMMUTABLE);
    }
    for (range, _) in ranges.items().zip(old).filter(|(range, old)| range.value() != *old) {
        errors.invalid(&range, IMMUTABLE);
    }
}
