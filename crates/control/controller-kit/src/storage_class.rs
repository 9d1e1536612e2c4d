//! The classes that serve a claim: its cluster's own, or the host's where the cluster has those.
use crate::{ObjectKey, Objects};
use api_meta::{ClusterName, ClusterSettings};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::api::storage::v1::{StorageClass, VolumeAttributesClass};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::sync::Arc;

/// The class a claim names, if there is one that may serve it.
pub fn class_of(classes: &Objects<StorageClass>, cluster: &ClusterName, claim: &PersistentVolumeClaim) -> Option<Arc<StorageClass>> {
    let name = claim.spec.as_ref()?.storage_class_name.as_ref()?;
    match host_labels(cluster, claim) {
        None => classes.get(&ObjectKey::new(cluster, "", name)),
        Some(labels) => classes.get(&ObjectKey::new(&ClusterName::root(), "", name)).filter(|class| has(&class.metadata, labels)),
    }
}

/// The same, but of the host's classes only: those whose volumes the host's drivers make.
pub fn host_class_of(classes: &Objects<StorageClass>, cluster: &ClusterName, claim: &PersistentVolumeClaim) -> Option<Arc<StorageClass>> {
    (cluster.is_root() || host_labels(cluster, claim).is_some()).then(|| class_of(classes, cluster, claim)).flatten()
}

/// The VolumeAttributesClass of a name, of the host's only: its parameters are told the host's drivers.
pub fn host_attributes_class_of(
    classes: &Objects<VolumeAttributesClass>,
    cluster: &ClusterName,
    claim: &PersistentVolumeClaim,
    name: &str,
) -> Option<Arc<VolumeAttributesClass>> {
    let labels = if cluster.is_root() { "" } else { host_labels(cluster, claim)? };
    classes.get(&ObjectKey::new(&ClusterName::root(), "", name)).filter(|class| has(&class.metadata, labels))
}

/// The labels the host's classes must have to serve the claim; none where they don't.
fn host_labels<'a>(cluster: &ClusterName, claim: &'a PersistentVolumeClaim) -> Option<&'a str> {
    let annotations = claim.metadata.annotations.as_ref().filter(|_| !cluster.is_root())?;
    annotations.get(ClusterSettings::HOST_CLASSES).map(String::as_str)
}

fn has(class: &ObjectMeta, labels: &str) -> bool {
    let of = class.labels.as_ref();
    let mut wanted = labels.split(',').filter_map(|label| label.split_once('='));
    wanted.all(|(key, value)| of.and_then(|of| of.get(key)).is_some_and(|has| has == value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_has_all_labels_or_does_not_serve() {
        let class: ObjectMeta = serde_json::from_value(serde_json::json!({"labels": {"tier": "a", "zone": "1"}})).unwrap();
        assert!(has(&class, "") && has(&class, "tier=a") && has(&class, "tier=a,zone=1"));
        assert!(!has(&class, "tier=b") && !has(&class, "tier=a,rack=1"));
    }
}
