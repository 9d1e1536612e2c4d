//! CSIDriver: what a CSI driver can do and needs.
use crate::cells::UNSET;
use crate::check::{At, Report, numbers};
use crate::fields::{Fill, Read};
use api_meta::FieldErrors;
use api_resource::{Column, Names, Resource, ResourceScope};
use serde_json::{Value, json};

pub struct CSIDrivers;

impl Resource for CSIDrivers {
    const NAMES: Names = Names::new("storage.k8s.io", "v1", "CSIDriver", "csidrivers", "csidriver");
    const RETURNS_DELETED: bool = true;
    const SCOPE: ResourceScope = ResourceScope::Cluster;
    const COLUMNS: &'static [Column] = &[
        Column::with("AttachRequired", |row| row.object["spec"]["attachRequired"].as_bool().unwrap_or(true).into()).boolean(),
        Column::with("PodInfoOnMount", |row| row.object["spec"]["podInfoOnMount"].flag().into()).boolean(),
        Column::with("StorageCapacity", |row| row.object["spec"]["storageCapacity"].flag().into()).boolean(),
        Column::with("TokenRequests", |row| joined(row.object["spec"]["tokenRequests"].list().iter().map(|request| request["audience"].text()))),
        Column::with("RequiresRepublish", |row| row.object["spec"]["requiresRepublish"].flag().into()).boolean(),
        Column::with("Modes", |row| joined(row.object["spec"]["volumeLifecycleModes"].texts())),
    ];
    const UNCONDITIONAL_UPDATE: bool = false;
    fn default(object: &mut Value) {
        let spec = object.open("spec");
        spec.absent("attachRequired", true);
        for flag in ["podInfoOnMount", "storageCapacity", "requiresRepublish", "seLinuxMount"] {
            spec.absent(flag, false);
        }
        spec.absent("fsGroupPolicy", "ReadWriteOnceWithFSType");
        spec.zero("volumeLifecycleModes", json!(["Persistent"]));
    }
    fn validate(new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let root = At::root(new);
        let spec = root.field("spec");
        for flag in ["attachRequired", "podInfoOnMount", "storageCapacity"] {
            if spec[flag].is_null() {
                errors.required(&spec.field(flag), "");
            }
        }
        errors.one_of_if_set(&spec.field("fsGroupPolicy"), &["File", "None", "ReadWriteOnceWithFSType"]);
        let modes = spec.field("volumeLifecycleModes");
        for mode in modes.items() {
            if !matches!(mode.text(), "Persistent" | "Ephemeral") {
                errors.push(api_meta::FieldError::not_supported(&modes.path(), mode.value().clone(), &["Ephemeral", "Persistent"]));
            }
        }
        let requests = spec.field("tokenRequests");
        for (index, request) in requests.items().enumerate() {
            if requests.list()[..index].iter().any(|other| other["audience"] == request["audience"]) {
                errors.duplicate_as(&request.field("audience"), request["audience"].clone());
            }
            numbers::in_range(&mut errors, &request.field("expirationSeconds"), 600, 1 << 32);
        }
        if let Some(old) = old {
            for field in ["attachRequired", "volumeLifecycleModes"] {
                errors.immutable(&spec.field(field), &old["spec"][field]);
            }
        }
        errors
    }
}

fn joined<'a>(texts: impl Iterator<Item = &'a str>) -> Value {
    match texts.collect::<Vec<_>>().join(",") {
        none if none.is_empty() => UNSET.into(),
        texts => texts.into(),
    }
}
