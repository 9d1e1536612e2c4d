//! What discovery and OpenAPI say of aggregated groups: what their servers said of themselves.
use super::Backend;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// The groups of available servers in the plain form, each with its versions, preferred first. `whole`: as a document of its own.
pub fn groups(backends: &[Arc<Backend>], whole: bool) -> Vec<Value> {
    let available: Vec<&Arc<Backend>> = backends.iter().filter(|backend| backend.state().available).collect();
    let mut groups: Vec<Value> = Vec::new();
    for backend in available {
        let version = json!({ "groupVersion": format!("{}/{}", backend.group, backend.version), "version": backend.version });
        match groups.iter_mut().find(|group| group["name"] == backend.group) {
            Some(group) => group["versions"].as_array_mut().expect("made below").push(version),
            None => groups.push(json!({ "name": backend.group, "preferredVersion": version, "versions": [version] })),
        }
    }
    if whole {
        for group in &mut groups {
            group["kind"] = "APIGroup".into();
            group["apiVersion"] = "v1".into();
        }
    }
    groups
}

/// The groups in the aggregated form. Of a server that does not answer they are what it said last, and stale.
pub fn aggregated(backends: &[Arc<Backend>]) -> Vec<Value> {
    let mut groups: Vec<Value> = Vec::new();
    for backend in backends {
        let state = backend.state();
        let resources = state.resources.as_deref().map(|list| resources(backend, list)).unwrap_or_default();
        let version = json!({ "version": backend.version, "resources": resources, "freshness": if state.available { "Current" } else { "Stale" } });
        match groups.iter_mut().find(|group| group["metadata"]["name"] == backend.group) {
            Some(group) => group["versions"].as_array_mut().expect("made below").push(version),
            None => groups.push(json!({ "metadata": { "name": backend.group, "creationTimestamp": null }, "versions": [version] })),
        }
    }
    groups
}

/// An APIResourceList in the aggregated form.
fn resources(backend: &Backend, list: &Value) -> Vec<Value> {
    let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let kind = |entry: &Value| {
        let or = |key: &str, own: &str| entry[key].as_str().filter(|text| !text.is_empty()).unwrap_or(own).to_owned();
        json!({ "group": or("group", &backend.group), "version": or("version", &backend.version), "kind": entry["kind"] })
    };
    let entries = list["resources"].as_array().map_or(&[][..], Vec::as_slice);
    let mut found: Vec<Value> = Vec::new();
    for entry in entries.iter().filter(|entry| !text(entry, "name").contains('/')) {
        let scope = if entry["namespaced"] == true { "Namespaced" } else { "Cluster" };
        let mut resource = json!({ "resource": entry["name"], "singularResource": entry["singularName"], "scope": scope, "responseKind": kind(entry), "verbs": entry["verbs"] });
        for list in ["shortNames", "categories"] {
            if entry[list].is_array() {
                resource[list] = entry[list].clone();
            }
        }
        let place = format!("{}/", text(entry, "name"));
        let subresources: Vec<Value> = entries
            .iter()
            .filter_map(|part| {
                let name = part["name"].as_str()?.strip_prefix(&place)?;
                Some(json!({ "subresource": name, "responseKind": kind(part), "verbs": part["verbs"] }))
            })
            .collect();
        if !subresources.is_empty() {
            resource["subresources"] = subresources.into();
        }
        found.push(resource);
    }
    found
}

/// Adds to an index of OpenAPI v3 where the documents of aggregated servers are.
pub fn extend_index(index: &mut Value, backends: &[Arc<Backend>]) {
    for backend in backends {
        let Some(document) = backend.state().document else { continue };
        let hash = hash(document.to_string().as_bytes());
        let path = format!("apis/{}/{}", backend.group, backend.version);
        index["paths"][&path] = json!({ "serverRelativeURL": format!("/openapi/v3/{path}?hash={hash}") });
    }
}

/// What a document is known by.
pub fn hash(document: &[u8]) -> String {
    Sha256::digest(document).iter().map(|byte| format!("{byte:02X}")).collect()
}
