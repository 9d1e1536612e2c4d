//! Discovery: which groups, versions and resources a cluster serves, plain and aggregated. Derived from the kinds.
use crate::aggregation::{Backend, discovery as aggregation};
use crate::documents::Document;
use crate::kinds::Kind;
use api_resource::{AnyResource, Subresource};
use http::HeaderMap;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Groups in the order they are listed, each with its versions, preferred first.
struct Groups<'a>(Vec<(String, BTreeMap<VersionOrder, Vec<&'a Kind>>)>);

/// Upstream's order of versions: GA before beta before alpha, newer first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct VersionOrder(u8, std::cmp::Reverse<u32>, std::cmp::Reverse<u32>, String);

impl VersionOrder {
    fn of(version: &str) -> Self {
        let rest = version.strip_prefix('v').unwrap_or_default();
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let major = rest[..digits].parse().unwrap_or(0);
        let (stability, minor) = match &rest[digits..] {
            "" if major > 0 => (0, 0),
            tail if tail.starts_with("beta") => (1, tail[4..].parse().unwrap_or(0)),
            tail if tail.starts_with("alpha") => (2, tail[5..].parse().unwrap_or(0)),
            _ => (3, 0),
        };
        Self(stability, std::cmp::Reverse(major), std::cmp::Reverse(minor), version.to_owned())
    }
}

impl<'a> Groups<'a> {
    fn of(kinds: &'a [Kind]) -> Self {
        let mut groups: Vec<(String, BTreeMap<VersionOrder, Vec<&Kind>>)> = Vec::new();
        let mut places: HashMap<&str, usize> = HashMap::new();
        for kind in kinds {
            let names = kind.names();
            let at = *places.entry(&names.group).or_insert_with(|| {
                groups.push((names.group.to_string(), BTreeMap::new()));
                groups.len() - 1
            });
            groups[at].1.entry(VersionOrder::of(&names.version)).or_default().push(kind);
        }
        Self(groups)
    }
    fn find(&self, group: &str) -> Option<&BTreeMap<VersionOrder, Vec<&'a Kind>>> {
        self.0.iter().find(|(name, _)| name == group).map(|(_, versions)| versions)
    }
}

/// The form a document at `path` is asked for in: "" or the version of the aggregated one; `None` when there is none there.
pub fn form(path: &str, headers: &HeaderMap) -> Option<&'static str> {
    match path.trim_matches('/').split('/').collect::<Vec<_>>()[..] {
        ["api" | "apis"] => Some(aggregated_version(headers).unwrap_or_default()),
        ["apis", _] | ["api", _] | ["apis", _, _] => Some(""),
        _ => None,
    }
}

/// The discovery document at `path`, or `None` when there is none.
pub fn document(path: &str, form: &str, kinds: &[Kind], address: &str, backends: &[Arc<Backend>]) -> Option<Document> {
    let (value, media_type) = value(path, form, kinds, address, backends)?;
    let bytes = serde_json::to_vec(&value).expect("a value encodes");
    let tag = (!form.is_empty()).then(|| Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02X}")).collect());
    Some(Document { bytes: bytes.into(), media_type, tag, varies: true })
}

fn value(path: &str, form: &str, kinds: &[Kind], address: &str, backends: &[Arc<Backend>]) -> Option<(Value, &'static str)> {
    let groups = Groups::of(kinds);
    let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
    const PLAIN: &str = "application/json";
    let document = match segments[..] {
        ["api"] | ["apis"] if !form.is_empty() => {
            let version = form;
            let core = segments[0] == "api";
            let mut items: Vec<Value> =
                groups.0.iter().filter(|(group, _)| group.is_empty() == core).map(|(group, versions)| aggregated(group, versions)).collect();
            if !core {
                // A version that both have is this server's.
                let unknown = |item: &Value| groups.find(item["metadata"]["name"].as_str().unwrap_or_default()).is_none();
                items.extend(aggregation::aggregated(backends).into_iter().filter(unknown));
            }
            let value = json!({ "kind": "APIGroupDiscoveryList", "apiVersion": format!("apidiscovery.k8s.io/{version}"), "metadata": {}, "items": items });
            let media_type = if version == "v2" {
                "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
            } else {
                "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"
            };
            return Some((value, media_type));
        }
        ["api"] => {
            json!({ "kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [{ "clientCIDR": "0.0.0.0/0", "serverAddress": address }] })
        }
        ["apis"] => {
            let mut list: Vec<Value> =
                groups.0.iter().filter(|(group, _)| !group.is_empty()).map(|(group, versions)| api_group(group, versions, false)).collect();
            let unknown = |group: &Value| groups.find(group["name"].as_str().unwrap_or_default()).is_none();
            list.extend(aggregation::groups(backends, false).into_iter().filter(unknown));
            json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": list })
        }
        ["apis", group] => match groups.find(group) {
            Some(versions) => api_group(group, versions, true),
            None => aggregation::groups(backends, true).into_iter().find(|found| found["name"] == *group)?,
        },
        ["api", version] => resource_list("", version, groups.find("")?.get(&VersionOrder::of(version))?),
        ["apis", group, version] => resource_list(group, version, groups.find(group)?.get(&VersionOrder::of(version))?),
        _ => return None,
    };
    Some((document, PLAIN))
}

fn aggregated_version(headers: &HeaderMap) -> Option<&'static str> {
    let accept = headers.get(http::header::ACCEPT)?.to_str().ok()?;
    accept.split(',').find_map(|range| {
        let has = |what: &str| range.split(';').any(|part| part.trim() == what);
        match (has("application/json") && has("g=apidiscovery.k8s.io") && has("as=APIGroupDiscoveryList"), has("v=v2"), has("v=v2beta1")) {
            (true, true, _) => Some("v2"),
            (true, _, true) => Some("v2beta1"),
            _ => None,
        }
    })
}

fn group_version(group: &str, version: &str) -> Value {
    json!({ "groupVersion": api_meta::join_api_version(group, version), "version": version })
}

fn api_group(group: &str, versions: &BTreeMap<VersionOrder, Vec<&Kind>>, whole: bool) -> Value {
    let listed: Vec<Value> = versions.keys().map(|version| group_version(group, &version.3)).collect();
    let mut fields = Map::from_iter([
        ("name".to_owned(), json!(group)),
        ("preferredVersion".to_owned(), listed.first().cloned().unwrap_or_default()),
        ("versions".to_owned(), listed.into()),
    ]);
    if whole {
        fields.insert("kind".into(), "APIGroup".into());
        fields.insert("apiVersion".into(), "v1".into());
    }
    Value::Object(fields)
}

fn resource_list(group: &str, version: &str, kinds: &[&Kind]) -> Value {
    let mut resources = Vec::new();
    for kind in kinds {
        let names = kind.names();
        let mut own = json!({
            "name": names.plural, "singularName": names.singular, "namespaced": kind.namespaced(), "kind": names.kind,
            "verbs": kind.verbs(), "storageVersionHash": "",
        });
        if !names.short.is_empty() {
            own["shortNames"] = json!(names.short);
        }
        if !names.categories.is_empty() {
            own["categories"] = json!(names.categories);
        }
        resources.push(own);
        for subresource in kind.subresources() {
            let (group, version, speaks) = speaks(&***kind, subresource);
            let mut entry = json!({
                "name": format!("{}/{}", names.plural, subresource.name), "singularName": "", "namespaced": kind.namespaced(), "kind": speaks,
                "verbs": subresource.verbs,
            });
            if subresource.speaks.2.is_empty() {
                resources.push(entry);
                continue;
            }
            if !group.is_empty() {
                entry["group"] = json!(group);
            }
            entry["version"] = json!(version);
            resources.push(entry);
        }
    }
    resources.sort_by(|a, b| a["name"].as_str().cmp(&b["name"].as_str()));
    json!({ "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": api_meta::join_api_version(group, version), "resources": resources })
}

fn speaks(kind: &dyn AnyResource, subresource: &Subresource) -> (String, String, String) {
    let names = kind.names();
    match subresource.speaks {
        (_, _, "") => (names.group.to_string(), names.version.to_string(), names.kind.to_string()),
        (group, version, kind) => (group.to_owned(), version.to_owned(), kind.to_owned()),
    }
}

fn aggregated(group: &str, versions: &BTreeMap<VersionOrder, Vec<&Kind>>) -> Value {
    let versions: Vec<Value> = versions
        .iter()
        .map(|(version, kinds)| {
            let resources: Vec<Value> = kinds.iter().map(|kind| aggregated_resource(&***kind)).collect();
            json!({ "version": version.3, "resources": resources, "freshness": "Current" })
        })
        .collect();
    // The core group has no name in its metadata.
    let metadata = if group.is_empty() { json!({ "creationTimestamp": null }) } else { json!({ "name": group, "creationTimestamp": null }) };
    json!({ "metadata": metadata, "versions": versions })
}

fn aggregated_resource(kind: &dyn AnyResource) -> Value {
    let names = kind.names();
    let response = |group: &str, version: &str, kind: &str| json!({ "group": group, "version": version, "kind": kind });
    let mut resource = json!({
        "resource": names.plural, "singularResource": names.singular, "scope": if kind.namespaced() { "Namespaced" } else { "Cluster" },
        "responseKind": response(&names.group, &names.version, &names.kind), "verbs": kind.verbs(),
    });
    if !names.short.is_empty() {
        resource["shortNames"] = json!(names.short);
    }
    if !names.categories.is_empty() {
        resource["categories"] = json!(names.categories);
    }
    let subresources: Vec<Value> = kind
        .subresources()
        .iter()
        .map(|subresource| {
            let (group, version, speaks) = speaks(kind, subresource);
            json!({ "subresource": subresource.name, "responseKind": response(&group, &version, &speaks), "verbs": subresource.verbs })
        })
        .collect();
    if !subresources.is_empty() {
        resource["subresources"] = subresources.into();
    }
    resource
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_preferred_as_upstream_prefers_them() {
        let mut versions = vec!["v1beta1", "v2", "v1", "v2alpha1", "v1beta2", "foo"];
        versions.sort_by_key(|v| VersionOrder::of(v));
        assert_eq!(versions, ["v2", "v1", "v1beta2", "v1beta1", "v2alpha1", "foo"]);
    }
}
