//! Validation of PersistentVolumes and PersistentVolumeClaims.
use crate::check::resources;
use crate::check::{At, Report, names::no_backsteps, selectors};
use crate::fields::{Fill, Read};
use crate::quantities;
use api_meta::{FieldErrors, Quantity, names};
use serde_json::Value;

const ACCESS_MODES: &[&str] = &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
const VOLUME_MODES: &[&str] = &["Block", "Filesystem"];

/// A PersistentVolumeClaimSpec.
pub fn claim_spec(errors: &mut FieldErrors, spec: &At) {
    let modes = spec.field("accessModes");
    if modes.list().is_empty() {
        errors.required(&modes, "at least 1 access mode is required");
    }
    access_modes(errors, &modes);
    selectors::label_selector(errors, &spec.field("selector"));
    let requests = spec.field("resources.requests");
    let storage = requests.key("storage");
    if storage.is_null() {
        errors.required(&storage, "");
    } else {
        positive(errors, &storage);
    }
    for field in ["storageClassName", "volumeAttributesClassName"] {
        errors.named_if_set(&spec.field(field), names::dns1123_subdomain);
    }
    errors.one_of_if_set(&spec.field("volumeMode"), VOLUME_MODES);
    for source in ["dataSource", "dataSourceRef"] {
        let source = spec.field(source);
        if source.is_null() {
            continue;
        }
        errors.present(&source.field("name"));
        errors.present(&source.field("kind"));
        if source["apiGroup"].text().is_empty() && source["kind"] != "PersistentVolumeClaim" {
            errors.invalid(&source, "");
        }
    }
    let (source, reference) = (spec.field("dataSource"), spec.field("dataSourceRef"));
    if reference.is_set() && reference["namespace"].text().is_empty() && *source.value() != *reference.value() {
        errors.invalid(&source, "must match dataSourceRef");
    }
    if source.is_set() && !reference["namespace"].text().is_empty() {
        errors.invalid(&source, "may not be specified when dataSourceRef.namespace is specified");
    }
}

/// A PersistentVolumeClaim; an existing one may grow, and little else.
pub fn claim(new: &Value, old: Option<&Value>) -> FieldErrors {
    let mut all = FieldErrors::new();
    let errors = &mut all;
    let root = At::root(new);
    let spec = root.field("spec");
    claim_spec(errors, &spec);
    let Some(old) = old else { return all };
    let before = &old["spec"];
    let mut rest = spec.value().clone();
    // Binding names the volume; a bound claim may ask for more, or for another class of attributes.
    if before["volumeName"].text().is_empty() {
        take(&mut rest, before, "volumeName");
    }
    if before["storageClassName"].is_null() {
        take(&mut rest, before, "storageClassName");
    }
    if old["status"]["phase"] == "Bound" {
        if let (Some(asked), Some(had)) = (storage(&rest), storage(before))
            && asked < had
        {
            let floor = quantities::read(&old["status"]["capacity"]["storage"]);
            if floor.is_none_or(|floor| asked <= floor) {
                errors.forbidden(&spec.field("resources.requests.storage"), "field can not be less than status.capacity");
            }
        }
        if let Some(had) = before["resources"]["requests"].get("storage") {
            rest.open("resources").open("requests").put("storage", had.clone());
        }
    }
    take(&mut rest, before, "volumeAttributesClassName");
    if spec["volumeAttributesClassName"] != before["volumeAttributesClassName"] && old["status"]["currentVolumeAttributesClassName"].is_set() {
        let class = spec.field("volumeAttributesClassName");
        if class.is_null() {
            errors.forbidden(&class, "update to nil is forbidden when status.currentVolumeAttributesClassName is not nil");
        } else if class.text().is_empty() {
            errors.forbidden(&class, "update to an empty string is forbidden when status.currentVolumeAttributesClassName is not nil");
        }
    }
    if rest != *before {
        let changes = crate::pod_spec::update::differences(before, &rest);
        errors
            .forbidden(&spec, format!("spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n{changes}"));
    }
    all
}

const RESIZE_STATUSES: &[&str] =
    &["ControllerResizeInProgress", "ControllerResizeInfeasible", "NodeResizePending", "NodeResizeInProgress", "NodeResizeInfeasible"];

/// What is new in the status of a PersistentVolumeClaim.
pub fn claim_status(new: &Value) -> FieldErrors {
    let mut all = FieldErrors::new();
    let errors = &mut all;
    let root = At::root(new);
    let status = root.field("status");
    for (_, amount) in status.field("capacity").entries() {
        resources::quantity(errors, &amount);
    }
    // Upstream's path has no `s` at its end.
    let statuses = At::new(&new["status"]["allocatedResourceStatuses"], "status.allocatedResourceStatus");
    for (name, state) in statuses.entries() {
        resource_key(errors, &statuses, name);
        if !RESIZE_STATUSES.contains(&state.text()) {
            errors.push(api_meta::FieldError::not_supported(&statuses.path(), name, RESIZE_STATUSES));
        }
    }
    let allocated = status.field("allocatedResources");
    for (name, amount) in allocated.entries() {
        if resource_key(errors, &allocated, name) {
            resources::quantity(errors, &amount);
        }
    }
    all
}

/// Of Kubernetes' own resources a claim has only storage. Gives whether it may.
fn resource_key(errors: &mut FieldErrors, at: &At, name: &str) -> bool {
    if quantities::is_native(name) && name != "storage" {
        errors.push(api_meta::FieldError::not_supported(&at.path(), name, &["storage"]));
        return false;
    }
    true
}

/// A PersistentVolume.
pub fn volume(new: &Value, old: Option<&Value>) -> FieldErrors {
    let mut all = FieldErrors::new();
    let errors = &mut all;
    let root = At::root(new);
    let spec = root.field("spec");
    let modes = spec.field("accessModes");
    if modes.list().is_empty() {
        errors.required(&modes, "");
    }
    access_modes(errors, &modes);
    let capacity = spec.field("capacity");
    if capacity.entries().next().is_none() {
        errors.required(&capacity, "");
    } else if capacity["storage"].is_null() || capacity.entries().count() > 1 {
        errors.not_supported(&capacity, &["storage"]);
    }
    for (_, amount) in capacity.entries() {
        positive(errors, &amount);
    }
    errors.one_of_if_set(&spec.field("persistentVolumeReclaimPolicy"), &["Delete", "Recycle", "Retain"]);
    errors.one_of_if_set(&spec.field("volumeMode"), VOLUME_MODES);
    for field in ["storageClassName", "volumeAttributesClassName"] {
        errors.named_if_set(&spec.field(field), names::dns1123_subdomain);
    }
    let affinity = spec.field("nodeAffinity");
    if affinity.is_set() {
        let required = affinity.field("required");
        if required.is_null() {
            errors.required(&required, "must specify required node constraints");
        } else {
            selectors::node_selector(errors, &required);
        }
    }
    volume_source(errors, &spec);
    let class = spec.field("volumeAttributesClassName");
    if !class.is_null() {
        if class.text().is_empty() {
            errors.required(&class, "an empty string is disallowed");
        }
        if spec["csi"].is_null() {
            errors.required(&spec.field("csi"), "has to be specified when using volumeAttributesClassName");
        }
    }
    if let Some(old) = old {
        if class.is_null() && old["spec"]["volumeAttributesClassName"].is_set() {
            errors.forbidden(&class, "update from non-nil value to nil is forbidden");
        }
        let (now, before) = (source(&spec), source(&old["spec"]));
        if now != before {
            errors.forbidden(&spec.field("persistentvolumesource"), "spec.persistentvolumesource is immutable after creation");
        }
        errors.immutable(&spec.field("volumeMode"), &old["spec"]["volumeMode"]);
        if old["spec"]["nodeAffinity"].is_set() {
            errors.immutable(&spec.field("nodeAffinity"), &old["spec"]["nodeAffinity"]);
        }
    }
    all
}

/// The fields of a PersistentVolumeSpec that are not its source.
const NOT_SOURCES: &[&str] = &[
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];

fn source(spec: &Value) -> Vec<(&String, &Value)> {
    spec.entries().filter(|(key, value)| value.is_set() && !NOT_SOURCES.contains(&key.as_str())).collect()
}

fn volume_source(errors: &mut FieldErrors, spec: &At) {
    let sources = source(spec.value());
    if sources.is_empty() {
        errors.required(spec, "must specify a volume type");
    }
    for (index, (kind, _)) in sources.into_iter().enumerate() {
        let at = spec.field(kind);
        if index > 0 {
            errors.forbidden(&at, "may not specify more than 1 volume type");
            continue;
        }
        match kind.as_str() {
            "hostPath" | "local" => {
                let path = at.field("path");
                if path.text().is_empty() {
                    errors.required(&path, "");
                }
                errors.reasons(&path, no_backsteps(path.text()));
                if kind == "local" && spec["nodeAffinity"].is_null() {
                    errors.required(&At::new(&Value::Null, "metadata.annotations"), "Local volume requires node affinity");
                }
            }
            "nfs" => {
                errors.present(&at.field("server"));
                errors.present(&at.field("path"));
                if !at["path"].text().is_empty() && !at["path"].text().starts_with('/') {
                    errors.invalid(&at.field("path"), "must be an absolute path");
                }
            }
            "csi" => {
                errors.present(&at.field("driver"));
                errors.present(&at.field("volumeHandle"));
            }
            _ => {}
        }
    }
    // Recycling scrubs the files of the host itself.
    if spec["hostPath"]["path"] == "/" && spec["persistentVolumeReclaimPolicy"] == "Recycle" {
        errors.forbidden(&spec.field("persistentVolumeReclaimPolicy"), "may not be 'recycle' for a hostPath mount of '/'");
    }
}

fn access_modes(errors: &mut FieldErrors, modes: &At) {
    for mode in modes.items() {
        if !ACCESS_MODES.contains(&mode.text()) {
            errors.push(api_meta::FieldError::not_supported(&modes.path(), mode.value().clone(), ACCESS_MODES));
        }
    }
    let has = |mode: &str| modes.texts().any(|other| other == mode);
    if has("ReadWriteOncePod") && modes.list().len() > 1 {
        errors.forbidden(modes, "may not use ReadWriteOncePod with other access modes");
    }
}

fn positive(errors: &mut FieldErrors, at: &At) {
    if let Some(quantity) = resources::quantity(errors, at)
        && quantity.is_zero()
    {
        errors.invalid(at, "must be greater than zero");
    }
}

fn storage(spec: &Value) -> Option<Quantity> {
    quantities::read(&spec["resources"]["requests"]["storage"])
}

fn take(to: &mut Value, from: &Value, key: &str) {
    match from.get(key) {
        Some(value) => to.put(key, value.clone()),
        None => drop(to.remove(key)),
    }
}
