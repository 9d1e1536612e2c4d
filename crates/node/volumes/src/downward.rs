//! The downward API: values of a pod's own fields and resources, for volumes and environments alike.
use api_meta::Quantity;
use api_meta::names::qualified_name;
use k8s_openapi::api::core::v1::{Container, ObjectFieldSelector, Pod, ResourceFieldSelector};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as RawQuantity;
use std::collections::BTreeMap;
use std::fmt::Write;

/// Why a field or resource has no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DownwardError {
    #[error("unsupported pod version: {0}")]
    UnsupportedVersion(String),
    #[error("field label not supported: {0}")]
    UnsupportedLabel(String),
    #[error("field label does not support subscript: {0}")]
    LabelWithSubscript(String),
    #[error("unsupported fieldPath: {0}")]
    UnsupportedPath(String),
    #[error("fieldPath \"{0}\" does not support subscript")]
    PathWithSubscript(String),
    #[error("invalid key subscript in {path}: {reason}")]
    InvalidSubscript { path: String, reason: String },
    #[error("container {0} not found")]
    ContainerNotFound(String),
    #[error("unsupported container resource : {0}")]
    UnsupportedResource(String),
    #[error("quantity \"{quantity}\" of {resource} is invalid: {reason}")]
    InvalidQuantity { resource: String, quantity: String, reason: &'static str },
}

/// Addresses of a running pod, which its stored status may not show yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodAddresses {
    /// Of the node, primary first.
    pub host_ips: Vec<String>,
    /// Of the pod, primary first.
    pub pod_ips: Vec<String>,
}

/// A `fieldRef` of an environment variable.
pub fn environment_field(pod: &Pod, addresses: &PodAddresses, selector: &ObjectFieldSelector) -> Result<String, DownwardError> {
    let version = selector.api_version.as_deref().unwrap_or_default();
    if !matches!(version, "" | "v1") {
        return Err(DownwardError::UnsupportedVersion(version.into()));
    }
    let path = selector.field_path.as_str();
    if let Some((base, _)) = split_subscript(path) {
        return match base {
            "metadata.annotations" | "metadata.labels" => metadata_field(pod, path),
            _ => Err(DownwardError::LabelWithSubscript(path.into())),
        };
    }
    let spec = pod.spec.as_ref();
    let text = |value: Option<&String>| value.cloned().unwrap_or_default();
    Ok(match path {
        "metadata.annotations" | "metadata.labels" | "metadata.name" | "metadata.namespace" | "metadata.uid" => return metadata_field(pod, path),
        "spec.nodeName" | "spec.host" => text(spec.and_then(|s| s.node_name.as_ref())),
        "spec.restartPolicy" => text(spec.and_then(|s| s.restart_policy.as_ref())),
        "spec.serviceAccountName" => text(spec.and_then(|s| s.service_account_name.as_ref())),
        "spec.schedulerName" => text(spec.and_then(|s| s.scheduler_name.as_ref())),
        "status.phase" => text(pod.status.as_ref().and_then(|s| s.phase.as_ref())),
        "status.hostIP" => text(addresses.host_ips.first()),
        "status.hostIPs" => addresses.host_ips.join(","),
        "status.podIP" => text(addresses.pod_ips.first()),
        "status.podIPs" => addresses.pod_ips.join(","),
        _ => return Err(DownwardError::UnsupportedLabel(path.into())),
    })
}

/// A `fieldRef` of a downward API volume: metadata only.
pub fn metadata_field(pod: &Pod, path: &str) -> Result<String, DownwardError> {
    let (meta, empty) = (&pod.metadata, BTreeMap::new());
    let annotations = meta.annotations.as_ref().unwrap_or(&empty);
    let labels = meta.labels.as_ref().unwrap_or(&empty);
    if let Some((base, subscript)) = split_subscript(path) {
        let (values, key) = match base {
            "metadata.annotations" => (annotations, subscript.to_lowercase()),
            "metadata.labels" => (labels, subscript.to_owned()),
            _ => return Err(DownwardError::PathWithSubscript(path.into())),
        };
        let reasons = qualified_name(&key);
        if !reasons.is_empty() {
            return Err(DownwardError::InvalidSubscript { path: path.into(), reason: reasons.join(";") });
        }
        return Ok(values.get(subscript).cloned().unwrap_or_default());
    }
    Ok(match path {
        "metadata.annotations" => format_map(annotations),
        "metadata.labels" => format_map(labels),
        "metadata.name" => meta.name.clone().unwrap_or_default(),
        "metadata.namespace" => meta.namespace.clone().unwrap_or_default(),
        "metadata.uid" => meta.uid.clone().unwrap_or_default(),
        _ => return Err(DownwardError::UnsupportedPath(path.into())),
    })
}

/// A `resourceFieldRef`. `own_container` is used when the selector names none.
///
/// A limit that the container lacks is the pod's own limit, else what the node can give (`allocatable`).
pub fn resource_field(
    pod: &Pod,
    own_container: &str,
    selector: &ResourceFieldSelector,
    allocatable: &BTreeMap<String, RawQuantity>,
) -> Result<String, DownwardError> {
    let name = selector.container_name.as_deref().filter(|n| !n.is_empty()).unwrap_or(own_container);
    let container = find_container(pod, name).ok_or_else(|| DownwardError::ContainerNotFound(name.into()))?;
    let unsupported = || DownwardError::UnsupportedResource(selector.resource.clone());
    let (side, resource) = selector.resource.split_once('.').ok_or_else(unsupported)?;
    let known = matches!(resource, "cpu" | "memory" | "ephemeral-storage") || resource.starts_with("hugepages-");
    if !known || !matches!(side, "limits" | "requests") {
        return Err(unsupported());
    }
    let resources = container.resources.as_ref();
    let set = if side == "limits" { resources.and_then(|r| r.limits.as_ref()) } else { resources.and_then(|r| r.requests.as_ref()) };
    let mut quantity = parse(&selector.resource, set.and_then(|s| s.get(resource)))?;
    if side == "limits" && quantity.is_zero() && !resource.starts_with("hugepages-") {
        let pod_limits = pod.spec.as_ref().and_then(|s| s.resources.as_ref()).and_then(|r| r.limits.as_ref());
        quantity = parse(&selector.resource, pod_limits.and_then(|l| l.get(resource)).or_else(|| allocatable.get(resource)))?;
    }
    let divisor = match parse(&selector.resource, selector.divisor.as_ref())? {
        zero if zero.is_zero() => Quantity::from_units(1),
        divisor => divisor,
    };
    let (value, by) = if resource == "cpu" { (quantity.millis(), divisor.millis()) } else { (quantity.units(), divisor.units()) };
    // Rounded up like upstream's; a divisor is at least one unit here, since parts of one round up too.
    Ok((i128::from(value).div_euclid(i128::from(by)) + i128::from(value.rem_euclid(by) != 0)).to_string())
}

fn parse(resource: &str, quantity: Option<&RawQuantity>) -> Result<Quantity, DownwardError> {
    let Some(RawQuantity(text)) = quantity else { return Ok(Quantity::ZERO) };
    Quantity::parse(text).map_err(|reason| DownwardError::InvalidQuantity { resource: resource.into(), quantity: text.clone(), reason })
}

fn find_container<'a>(pod: &'a Pod, name: &str) -> Option<&'a Container> {
    let spec = pod.spec.as_ref()?;
    spec.containers.iter().chain(spec.init_containers.iter().flatten()).find(|c| c.name == name)
}

/// `metadata.labels['app']` is `("metadata.labels", "app")`.
fn split_subscript(path: &str) -> Option<(&str, &str)> {
    path.strip_suffix("']")?.split_once("['").filter(|(base, _)| !base.is_empty())
}

/// Lines `key="value"` in key order, without a newline at the end.
fn format_map(map: &BTreeMap<String, String>) -> String {
    map.iter().map(|(key, value)| format!("{key}={}", go_quoted(value))).collect::<Vec<_>>().join("\n")
}

/// The text as Go's `%q` writes it.
fn go_quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x0b' => out.push_str("\\v"),
            ' '..='~' => out.push(c),
            _ => {
                let code = u32::from(c);
                // Rust and Go call the same Unicode categories printable. The letter in front keeps
                // combining marks from being escaped for standing alone.
                let printable = format!("a{c}").escape_debug().count() == 2;
                let written = match code {
                    _ if printable => write!(out, "{c}"),
                    ..=0x7f => write!(out, "\\x{code:02x}"),
                    0x80..=0xffff => write!(out, "\\u{code:04x}"),
                    _ => write!(out, "\\U{code:08x}"),
                };
                written.expect("writing into a String does not fail");
            }
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> Pod {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u", "labels": {"b": "2", "a": "1\n\u{1}é\u{200b}"}, "annotations": {"x/y": "z"}},
            "spec": {"nodeName": "node", "serviceAccountName": "sa", "containers": [
                {"name": "c", "resources": {"limits": {"cpu": "1250m"}, "requests": {"memory": "33Mi", "hugepages-2Mi": "4Mi"}}}]}
        }))
        .unwrap()
    }

    #[test]
    fn maps_are_sorted_quoted_lines_without_a_last_newline() {
        assert_eq!(metadata_field(&pod(), "metadata.labels").unwrap(), "a=\"1\\n\\x01é\\u200b\"\nb=\"2\"");
    }

    #[test]
    fn subscripts_pick_one_key_and_only_of_maps() {
        assert_eq!(metadata_field(&pod(), "metadata.annotations['x/y']").unwrap(), "z");
        assert_eq!(metadata_field(&pod(), "metadata.labels['none']").unwrap(), "");
        assert_eq!(metadata_field(&pod(), "metadata.name['x']").unwrap_err().to_string(), "fieldPath \"metadata.name['x']\" does not support subscript");
        assert_eq!(metadata_field(&pod(), "spec.nodeName").unwrap_err().to_string(), "unsupported fieldPath: spec.nodeName");
    }

    #[test]
    fn environments_also_see_spec_and_addresses() {
        let addresses = PodAddresses { host_ips: vec!["10.0.0.1".into()], pod_ips: vec!["10.1.0.1".into(), "fd00::1".into()] };
        let field = |path: &str| environment_field(&pod(), &addresses, &ObjectFieldSelector { api_version: Some("v1".into()), field_path: path.into() });
        for (path, value) in [
            ("spec.nodeName", "node"),
            ("spec.serviceAccountName", "sa"),
            ("status.podIPs", "10.1.0.1,fd00::1"),
            ("status.hostIP", "10.0.0.1"),
            ("metadata.uid", "u"),
        ] {
            assert_eq!(field(path).unwrap(), value, "{path}");
        }
        assert_eq!(field("spec.tolerations").unwrap_err().to_string(), "field label not supported: spec.tolerations");
    }

    #[test]
    fn resources_are_divided_rounded_up_and_fall_back_to_the_node() {
        let allocatable = BTreeMap::from([("memory".to_owned(), RawQuantity("1Gi".into()))]);
        let value = |resource: &str, divisor: Option<&str>| {
            let selector = ResourceFieldSelector { container_name: None, resource: resource.into(), divisor: divisor.map(|d| RawQuantity(d.into())) };
            resource_field(&pod(), "c", &selector, &allocatable).map_err(|e| e.to_string())
        };
        assert_eq!(value("limits.cpu", None).unwrap(), "2");
        assert_eq!(value("limits.cpu", Some("1m")).unwrap(), "1250");
        assert_eq!(value("limits.memory", Some("1Mi")).unwrap(), "1024");
        assert_eq!(value("requests.memory", Some("10Mi")).unwrap(), "4");
        assert_eq!(value("requests.cpu", None).unwrap(), "0");
        assert_eq!(value("requests.hugepages-2Mi", None).unwrap(), "4194304");
        assert_eq!(value("limits.disk", None).unwrap_err(), "unsupported container resource : limits.disk");
        let missing = ResourceFieldSelector { container_name: Some("d".into()), resource: "limits.cpu".into(), divisor: None };
        assert_eq!(resource_field(&pod(), "c", &missing, &allocatable).unwrap_err().to_string(), "container d not found");
    }
}
