//! The PersistentVolume that stands for a volume a driver has made.
use csi::v1::{Topology, Volume};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use serde_json::{Value, json};

pub const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// Keeps the object until the driver has deleted the volume (KEP 2644).
pub const FINALIZER: &str = "external-provisioner.volume.kubernetes.io/finalizer";

pub fn name(claim: &PersistentVolumeClaim) -> String {
    format!("pvc-{}", claim.metadata.uid.as_deref().unwrap_or_default())
}

/// The object for a claim, of what the driver has answered.
pub fn object(
    driver: &str,
    claim: &PersistentVolumeClaim,
    class: &StorageClass,
    volume: &Volume,
    fs_type: &str,
) -> Result<PersistentVolume, serde_json::Error> {
    let spec = claim.spec.clone().unwrap_or_default();
    let block = spec.volume_mode.as_deref() == Some("Block");
    let mut source = json!({"driver": driver, "volumeHandle": volume.volume_id, "volumeAttributes": volume.volume_context});
    if !block {
        source["fsType"] = json!(fs_type);
    }
    let mut object = json!({
        "apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": {"name": name(claim), "annotations": {PROVISIONED_BY: driver}, "finalizers": [FINALIZER]},
        "spec": {
            "capacity": {"storage": quantity(volume.capacity_bytes)},
            "accessModes": spec.access_modes,
            "persistentVolumeReclaimPolicy": class.reclaim_policy.as_deref().unwrap_or("Delete"),
            "storageClassName": class.metadata.name,
            "volumeAttributesClassName": spec.volume_attributes_class_name.filter(|name| !name.is_empty()),
            "mountOptions": class.mount_options,
            "volumeMode": spec.volume_mode,
            "claimRef": {
                "apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": claim.metadata.namespace, "name": claim.metadata.name,
                "uid": claim.metadata.uid, "resourceVersion": claim.metadata.resource_version,
            },
            "csi": source,
        },
    });
    if !volume.accessible_topology.is_empty() {
        let terms: Vec<Value> = volume.accessible_topology.iter().map(term).collect();
        object["spec"]["nodeAffinity"] = json!({"required": {"nodeSelectorTerms": terms}});
    }
    serde_json::from_value(object)
}

fn term(topology: &Topology) -> Value {
    let expressions = topology.segments.iter().map(|(key, value)| json!({"key": key, "operator": "In", "values": [value]}));
    json!({"matchExpressions": expressions.collect::<Vec<_>>()})
}

/// Bytes in the largest binary unit that holds them exactly.
pub fn quantity(bytes: i64) -> String {
    let units = [(1i64 << 40, "Ti"), (1 << 30, "Gi"), (1 << 20, "Mi"), (1 << 10, "Ki")];
    match units.iter().find(|(unit, _)| bytes > 0 && bytes % unit == 0) {
        Some((unit, name)) => format!("{}{name}", bytes / unit),
        None => bytes.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_short_and_exact() {
        assert_eq!([1 << 30, 5 << 29, 4096, 1000].map(quantity), ["1Gi", "2560Mi", "4Ki", "1000"]);
    }
}
