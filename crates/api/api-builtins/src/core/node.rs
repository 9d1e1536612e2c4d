//! Node: a machine that runs pods.
use crate::cells::{AGE, NONE, condition, text_or};
use crate::check::{At, Report, metadata, network, resources};
use crate::fields::{Fill, Read, selectable};
use crate::pod_spec::taint_effect;
use crate::quantities;
use crate::subresources::NODE_PROXY;
use api_meta::{FieldErrors, names};
use api_resource::{Column, Field, Names, Resource, ResourceScope, Row, STATUS, Subresource, text};
use serde_json::Value;

pub struct Nodes;

impl Resource for Nodes {
    const NAMES: Names = Names::with("", "v1", "Node", "nodes", "node", const { &[text("no")] }, &[]);
    const SCOPE: ResourceScope = ResourceScope::Cluster;
    const COLUMNS: &'static [Column] = &[
        Column::NAME,
        Column::with("Status", status),
        Column::with("Roles", roles),
        AGE,
        Column::path("Version", ".status.nodeInfo.kubeletVersion"),
        Column::with("Internal-IP", |row| address(row, "InternalIP")).wide(),
        Column::with("External-IP", |row| address(row, "ExternalIP")).wide(),
        Column::with("OS-Image", |row| info(row, "osImage")).wide(),
        Column::with("Kernel-Version", |row| info(row, "kernelVersion")).wide(),
        Column::with("Container-Runtime", |row| info(row, "containerRuntimeVersion")).wide(),
    ];
    const OWN_COLUMNS: bool = true;
    const SUBRESOURCES: &'static [Subresource] = &[STATUS, NODE_PROXY];
    const FIELDS: &'static [Field] = &[selectable("spec.unschedulable", "false")];
    const GENERATION: bool = false;
    const STATUS_ON_CREATE: bool = true;
    fn default(object: &mut Value) {
        object.open("spec");
        if let Some(status) = object.child("status") {
            if let (None, Some(capacity)) = (status.get("allocatable"), status.get("capacity").cloned()) {
                status.put("allocatable", capacity);
            }
            quantities::canonical_map(status, "capacity");
            quantities::canonical_map(status, "allocatable");
        }
    }
    fn validate(new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let root = At::root(new);
        taints(&mut errors, &root);
        for list in ["status.capacity", "status.allocatable"] {
            let list = root.field(list);
            for (name, amount) in list.entries() {
                resources::amount_of(&mut errors, &amount, name);
            }
        }
        let ranges = root.field("spec.podCIDRs");
        let families: Vec<bool> = ranges.items().filter_map(|range| network::cidr(&mut errors, &range)).map(|range| range.addr().is_ipv4()).collect();
        network::one_of_each_family(&mut errors, &ranges, &families, "may specify no more than one CIDR for each IP family");
        if let Some(old) = old {
            let before = &old["spec"];
            if !before["podCIDRs"].list().is_empty() && before["podCIDRs"] != *ranges.value() {
                errors.forbidden(&ranges, "node updates may not change podCIDR except from \"\" to valid");
            }
            if !before["providerID"].text().is_empty() && before["providerID"] != new["spec"]["providerID"] {
                errors.forbidden(&root.field("spec.providerID"), "node updates may not change providerID except from \"\" to valid");
            }
        }
        errors
    }
    fn validate_part(_subresource: &str, new: &Value, old: &Value) -> FieldErrors {
        let mut errors = Self::validate(new, Some(old));
        let root = At::root(new);
        let addresses = root.field("status.addresses");
        for (index, address) in addresses.items().enumerate() {
            if addresses.list()[..index].contains(&address) {
                errors.duplicate(&address);
            }
        }
        errors
    }
}

fn status(row: &Row) -> Value {
    let ready = match condition(row.object, "Ready") {
        Some(condition) if condition["status"] == "True" => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    };
    if row.object["spec"]["unschedulable"].flag() { format!("{ready},SchedulingDisabled").into() } else { ready.into() }
}

/// The roles that labels name: `node-role.kubernetes.io/{role}` or `kubernetes.io/role={role}`.
fn roles(row: &Row) -> Value {
    let mut roles: Vec<&str> = row.object["metadata"]["labels"]
        .entries()
        .filter_map(|(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) => Some(role),
            None => (key == "kubernetes.io/role").then(|| value.text()),
        })
        .filter(|role| !role.is_empty())
        .collect();
    roles.sort_unstable();
    roles.dedup();
    if roles.is_empty() { NONE.into() } else { roles.join(",").into() }
}

fn address(row: &Row, kind: &str) -> Value {
    let addresses = row.object["status"]["addresses"].list();
    addresses.iter().find(|address| address["type"] == kind).map_or(NONE.into(), |address| address["address"].clone())
}

fn info(row: &Row, key: &str) -> Value {
    text_or(&row.object["status"]["nodeInfo"][key], "<unknown>")
}

fn taints(errors: &mut FieldErrors, root: &At) {
    // Upstream names this path, though taints stand in the spec.
    let taints = At::new(&root["spec"]["taints"], "metadata.taints");
    for (index, taint) in taints.items().enumerate() {
        let key = taint.field("key");
        metadata::label_key(errors, &key, key.text());
        let reasons = names::label_value(taint["value"].text());
        if !reasons.is_empty() {
            errors.invalid_as(&taint.field("value"), taint["value"].text(), reasons.join(";"));
        }
        taint_effect(errors, &taint.field("effect"));
        if taints.list()[..index].iter().any(|other| other["key"] == taint["key"] && other["effect"] == taint["effect"]) {
            let mut error = api_meta::FieldError::duplicate(&taint.path(), taint.value().clone());
            error.detail = "taints must be unique by key and effect pair".into();
            errors.push(error);
        }
    }
}
