//! Environment variables and where their values come from.
use crate::check::names::variable_name;
use crate::check::{At, Report};
use crate::fields::Read;
use api_meta::{FieldErrors, names};

const POD_FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
const RESOURCES: &[&str] = &["limits.cpu", "limits.memory", "limits.ephemeral-storage", "requests.cpu", "requests.memory", "requests.ephemeral-storage"];

/// `env`.
pub fn variables(errors: &mut FieldErrors, at: &At) {
    for variable in at.items() {
        errors.named(&variable.field("name"), variable_name);
        let source = variable.field("valueFrom");
        if source.is_set() {
            value_source(errors, &source, !variable["value"].text().is_empty());
        }
    }
}

/// `envFrom`.
pub fn sources(errors: &mut FieldErrors, at: &At) {
    for source in at.items() {
        errors.named_if_set(&source.field("prefix"), variable_name);
        let mut count = 0;
        for kind in ["configMapRef", "secretRef"] {
            let reference = source.field(kind);
            if reference.is_set() {
                count += 1;
                errors.named(&reference.field("name"), names::dns1123_subdomain);
            }
        }
        match count {
            0 => errors.invalid_as(at, "", "must specify one of: `configMapRef` or `secretRef`"),
            1 => {}
            _ => errors.invalid_as(at, "", "may not have more than one field specified at a time"),
        }
    }
}

fn value_source(errors: &mut FieldErrors, at: &At, has_value: bool) {
    let mut count = 0;
    let (field, resource, file) = (at.field("fieldRef"), at.field("resourceFieldRef"), at.field("fileKeyRef"));
    if field.is_set() {
        count += 1;
        pod_field(errors, &field, POD_FIELDS);
    }
    if resource.is_set() {
        count += 1;
        resource_field(errors, &resource, false);
    }
    for kind in ["configMapKeyRef", "secretKeyRef"] {
        let reference = at.field(kind);
        if reference.is_set() {
            count += 1;
            errors.reasons(&reference.field("name"), names::dns1123_subdomain(reference["name"].text()));
            errors.named(&reference.field("key"), names::config_map_key);
        }
    }
    if file.is_set() {
        count += 1;
        for field in ["volumeName", "path", "key"] {
            errors.present(&file.field(field));
        }
    }
    match count {
        0 => errors.invalid_as(at, "", "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`"),
        _ if has_value => errors.invalid_as(at, "", "may not be specified when `value` is not empty"),
        1 => {}
        _ => errors.invalid_as(at, "", "may not have more than one field specified at a time"),
    }
}

/// `fieldRef`: a field of the pod, or one label or annotation of it.
pub fn pod_field(errors: &mut FieldErrors, at: &At, supported: &[&str]) {
    let (version, path) = (at.field("apiVersion"), at.field("fieldPath"));
    if version.text().is_empty() {
        return errors.required(&version, "");
    }
    if path.text().is_empty() {
        return errors.required(&path, "");
    }
    if version.text() != "v1" {
        return errors.invalid(&path, format!("error converting fieldPath: unsupported pod version: {}", version.text()));
    }
    let subscripted = path.text().strip_suffix("']").and_then(|text| text.split_once("['"));
    match subscripted {
        Some(("metadata.annotations", key)) => errors.reasons(at, names::qualified_name(&key.to_lowercase())),
        Some(("metadata.labels", key)) => errors.reasons(at, names::qualified_name(key)),
        Some((path, _)) => errors.invalid_as(at, path, "does not support subscript"),
        None if !is_pod_field(path.text()) => {
            errors.invalid(&path, format!("error converting fieldPath: field label not supported: {}", path.text()));
        }
        None if !supported.contains(&path.text()) => errors.not_supported(&path, supported),
        None => {}
    }
}

/// What upstream can look up in a pod at all, whether or not it may be used in this place.
fn is_pod_field(path: &str) -> bool {
    POD_FIELDS.contains(&path)
        || matches!(
            path,
            "metadata.annotations"
                | "metadata.labels"
                | "spec.restartPolicy"
                | "spec.schedulerName"
                | "spec.hostNetwork"
                | "status.phase"
                | "status.nominatedNodeName"
        )
}

/// `resourceFieldRef`: a request or limit of a container, which a volume has to name.
pub fn resource_field(errors: &mut FieldErrors, at: &At, in_volume: bool) {
    const CPU: &[&str] = &["1m", "1"];
    const SIZES: &[&str] = &["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];
    let (container, resource, divisor) = (at.field("containerName"), at.field("resource"), at.field("divisor"));
    let name = resource.text();
    let huge_pages = ["requests.hugepages-", "limits.hugepages-"].iter().any(|prefix| name.starts_with(prefix));
    if in_volume && container.text().is_empty() {
        errors.required(&container, "");
    } else if name.is_empty() {
        errors.required(&resource, "");
    } else if !RESOURCES.contains(&name) && !huge_pages {
        errors.not_supported(&resource, RESOURCES);
    }
    if matches!(divisor.text(), "" | "0") {
        return;
    }
    let kind = match name.split_once('.').map(|(_, kind)| kind) {
        Some("cpu") => "cpu",
        Some("memory") => "memory",
        Some("ephemeral-storage") => "local ephemeral storage",
        _ if huge_pages => "hugepages",
        _ => return,
    };
    let allowed = if kind == "cpu" { CPU } else { SIZES };
    if !allowed.contains(&divisor.text()) {
        let list = if kind == "cpu" { "1m and 1".to_owned() } else { allowed.join(", ") };
        errors.invalid_as(&divisor, name, format!("only divisor's values {list} are supported with the {kind} resource"));
    }
}
