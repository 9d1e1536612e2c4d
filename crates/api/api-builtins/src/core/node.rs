//! Node: a machine that runs pods.
use crate::cells::{AGE, NONE, condition, text_or};
use crate::fields::{Fill, Read, selectable};
use crate::quantities;
use crate::subresources::NODE_PROXY;
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
