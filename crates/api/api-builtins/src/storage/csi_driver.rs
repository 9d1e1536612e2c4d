//! CSIDriver: what a CSI driver can do and needs.
use crate::cells::UNSET;
use crate::fields::{Fill, Read};
use api_resource::{Column, Names, Resource, ResourceScope};
use serde_json::{Value, json};

pub struct CSIDrivers;

impl Resource for CSIDrivers {
    const NAMES: Names = Names::new("storage.k8s.io", "v1", "CSIDriver", "csidrivers", "csidriver");
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
}

fn joined<'a>(texts: impl Iterator<Item = &'a str>) -> Value {
    match texts.collect::<Vec<_>>().join(",") {
        none if none.is_empty() => UNSET.into(),
        texts => texts.into(),
    }
}
