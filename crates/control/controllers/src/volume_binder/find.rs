//! find: the volume that fits a claim best.
use controller_kit::pod_resources::parse;
use controller_kit::selector;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use std::sync::Arc;

pub const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
pub const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";

/// Whether the volume's claimRef names this claim (and, if it says which, this very one).
pub fn is_reserved_for(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let Some(reference) = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()) else { return false };
    reference.name == claim.metadata.name
        && reference.namespace == claim.metadata.namespace
        && reference.uid.as_ref().filter(|uid| !uid.is_empty()).is_none_or(|uid| Some(uid) == claim.metadata.uid.as_ref())
}

/// Whether it is big enough and of the right class, mode and access.
pub fn satisfies(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let (Some(of), Some(wanted)) = (&volume.spec, &claim.spec) else { return false };
    let class = |name: &Option<String>| name.clone().unwrap_or_default();
    let mode = |mode: &Option<String>| mode.clone().unwrap_or_else(|| "Filesystem".into());
    let has = parse(of.capacity.as_ref()).get("storage").copied();
    let needs = parse(wanted.resources.as_ref().and_then(|resources| resources.requests.as_ref())).get("storage").copied();
    let accessible = wanted.access_modes.iter().flatten().all(|access| of.access_modes.iter().flatten().any(|other| other == access));
    let selected = wanted.selector.as_ref().is_none_or(|of| selector(of).is_ok_and(|of| of.matches(&volume.metadata.labels)));
    class(&of.storage_class_name) == class(&wanted.storage_class_name)
        && mode(&of.volume_mode) == mode(&wanted.volume_mode)
        && accessible
        && selected
        && needs.is_none_or(|needs| has >= Some(needs))
}

/// A volume reserved for the claim, else the smallest free one that satisfies it.
pub fn find<'a>(claim: &PersistentVolumeClaim, volumes: &'a [Arc<PersistentVolume>]) -> Option<&'a Arc<PersistentVolume>> {
    let mut alive = volumes.iter().filter(|volume| volume.metadata.deletion_timestamp.is_none());
    if let Some(reserved) = alive.clone().find(|volume| is_reserved_for(volume, claim) && satisfies(volume, claim)) {
        return Some(reserved);
    }
    let size = |volume: &PersistentVolume| parse(volume.spec.as_ref().and_then(|spec| spec.capacity.as_ref())).get("storage").copied();
    let free = alive.by_ref().filter(|volume| {
        let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending");
        let unclaimed = volume.spec.as_ref().is_none_or(|spec| spec.claim_ref.is_none());
        let attributes = |name: Option<&String>| name.cloned().unwrap_or_default();
        let same_attributes = attributes(volume.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.as_ref()))
            == attributes(claim.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.as_ref()));
        unclaimed && same_attributes && matches!(phase, "Available" | "Pending") && satisfies(volume, claim)
    });
    free.min_by(|a, b| size(a).cmp(&size(b)).then_with(|| a.metadata.name.cmp(&b.metadata.name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn volume(name: &str, size: &str, with: Value) -> Arc<PersistentVolume> {
        let mut spec = json!({"capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], "storageClassName": "c"});
        spec.as_object_mut().unwrap().extend(with.as_object().unwrap().clone());
        Arc::new(serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec, "status": {"phase": "Available"}})).unwrap())
    }

    #[test]
    fn the_smallest_that_fits_is_taken_unless_one_is_reserved() {
        let claim: PersistentVolumeClaim = serde_json::from_value(json!({"metadata": {"name": "data", "namespace": "n", "uid": "u"},
            "spec": {"storageClassName": "c", "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "2Gi"}}}}))
        .unwrap();
        let mut all = vec![
            volume("big", "9Gi", json!({})),
            volume("fit", "3Gi", json!({})),
            volume("small", "1Gi", json!({})),
            volume("class", "2Gi", json!({"storageClassName": "d"})),
            volume("block", "2Gi", json!({"volumeMode": "Block"})),
            volume("attributes", "2Gi", json!({"volumeAttributesClassName": "fast"})),
            volume("shared", "2Gi", json!({"accessModes": ["ReadOnlyMany"]})),
            volume("taken", "2Gi", json!({"claimRef": {"name": "data", "namespace": "n", "uid": "other"}})),
        ];
        let name = |all: &[Arc<PersistentVolume>]| find(&claim, all).and_then(|volume| volume.metadata.name.clone());
        assert_eq!(name(&all).as_deref(), Some("fit"));
        all.push(volume("reserved", "5Gi", json!({"claimRef": {"name": "data", "namespace": "n"}})));
        assert_eq!(name(&all).as_deref(), Some("reserved"));
        assert_eq!(name(&all[2..8]), None);
    }
}
