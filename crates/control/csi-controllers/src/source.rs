//! Source: what a new volume begins with, a snapshot or another claim's volume, and whether it may.
use crate::deleter::is_here;
use crate::driver::{Facts, Rpc};
use crate::tenancy;
use controller_kit::volume_snapshot::{VolumeSnapshot, VolumeSnapshotContent};
use controller_kit::{Error, ObjectKey, Objects, Preconditions};
use csi::v1::VolumeContentSource;
use csi::v1::volume_content_source::{SnapshotSource, Type, VolumeSource};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use serde_json::json;
use std::sync::Arc;

/// On a claim while copies of it are being made.
const PROTECTION: &str = "provisioner.storage.kubernetes.io/cloning-protection";
/// On a content that may become a volume of another mode than it was taken of (KEP 3141).
const MODE_CHANGE: &str = "snapshot.storage.kubernetes.io/allow-volume-mode-change";

pub enum Source {
    Nothing,
    Claim { name: String, claim: Option<Arc<PersistentVolumeClaim>>, volume: Option<Arc<PersistentVolume>> },
    Snapshot { name: String, snapshot: Option<Arc<VolumeSnapshot>>, content: Option<Arc<VolumeSnapshotContent>> },
    Other(String),
}

/// The claims that are to begin with what the key names.
pub fn of_it(claims: &Objects<PersistentVolumeClaim>, key: &ObjectKey, kind: &str) -> Vec<ObjectKey> {
    let of = |claim: &Arc<PersistentVolumeClaim>| {
        let source = claim.spec.as_ref().and_then(|spec| spec.data_source.as_ref());
        source.is_some_and(|source| source.kind == kind && *source.name == *key.name)
    };
    claims.list(&key.cluster, Some(&key.namespace)).iter().filter(|claim| of(claim)).map(|claim| ObjectKey::of(&key.cluster, &claim.metadata)).collect()
}

/// The claim that a claim is to be a copy of.
pub fn claim_name(claim: &PersistentVolumeClaim) -> Option<String> {
    let source = claim.spec.as_ref()?.data_source.as_ref()?;
    (source.kind == "PersistentVolumeClaim").then(|| source.name.clone())
}

pub fn is_held(claim: &PersistentVolumeClaim) -> bool {
    claim.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == PROTECTION)
}

pub async fn hold(claims: &Objects<PersistentVolumeClaim>, key: &ObjectKey, hold: bool) -> Result<(), Error> {
    let Some(claim) = claims.get(key) else { return Ok(()) };
    let mut finalizers = claim.metadata.finalizers.clone().unwrap_or_default();
    finalizers.retain(|finalizer| finalizer != PROTECTION);
    if hold {
        finalizers.push(PROTECTION.into());
    }
    match claims.patch(key, "", &json!({"metadata": {"finalizers": finalizers}}), &Preconditions::exactly(&claim.metadata)).await {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}

/// Whether it can only be read on another node than the driver's.
pub fn is_elsewhere(source: &Source, facts: &Facts) -> bool {
    let of_driver = |driver: Option<&str>| facts.topology.is_some() && driver == Some(&facts.name);
    match source {
        Source::Claim { volume: Some(volume), .. } => {
            let driver = volume.spec.as_ref().and_then(|spec| spec.csi.as_ref()).map(|source| &*source.driver);
            of_driver(driver) && !is_here(facts, volume)
        }
        Source::Snapshot { content: Some(content), .. } => of_driver(Some(&content.spec.driver)) && content.node().is_some_and(|node| node != facts.node_name),
        _ => false,
    }
}

/// What the driver is told to begin with.
///
/// # Errors
/// Why nothing can be made from it, now or ever, in external-provisioner's words.
pub fn content_source(
    source: &Source,
    facts: &Facts,
    key: &ObjectKey,
    claim: &PersistentVolumeClaim,
    size: i64,
) -> Result<Option<VolumeContentSource>, String> {
    let source = match source {
        Source::Nothing => return Ok(None),
        Source::Other(kind) => return Err(format!("volumes can't be made from a {kind} here")),
        Source::Claim { name, claim: of, volume } => of_claim(name, of.as_deref(), volume.as_deref(), facts, claim, size)?,
        Source::Snapshot { name, snapshot, content } => of_snapshot(name, snapshot.as_deref(), content.as_deref(), facts, key, claim, size)?,
    };
    Ok(Some(VolumeContentSource { r#type: Some(source) }))
}

fn mode(mode: Option<&String>) -> &str {
    mode.map_or("Filesystem", String::as_str)
}

fn of_claim(
    name: &str,
    of: Option<&PersistentVolumeClaim>,
    volume: Option<&PersistentVolume>,
    facts: &Facts,
    claim: &PersistentVolumeClaim,
    size: i64,
) -> Result<Type, String> {
    let of = of.ok_or_else(|| {
        format!("error getting PVC {name} (namespace {:?}) from api server: not found", claim.metadata.namespace.as_deref().unwrap_or_default())
    })?;
    if of.metadata.deletion_timestamp.is_some() {
        return Err(format!("the PVC DataSource {name} is currently being deleted"));
    }
    let bound = of.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound");
    let Some(spec) = volume.filter(|_| bound).and_then(|volume| volume.spec.as_ref()) else {
        return Err(format!("the PVC DataSource {name} is not bound: cloning waits for it"));
    };
    if spec.claim_ref.as_ref().and_then(|owner| owner.uid.as_ref()) != of.metadata.uid.as_ref() {
        return Err(format!("the volume of PVC DataSource {name} is bound to another claim"));
    }
    let Some(source) = spec.csi.as_ref().filter(|source| source.driver == facts.name) else {
        return Err(format!("the source claim {name:?} has no volume of driver {:?}", facts.name));
    };
    if !facts.can(Rpc::CloneVolume) {
        return Err(format!("driver {:?} can't clone volumes", facts.name));
    }
    let wanted = claim.spec.as_ref().and_then(|spec| spec.volume_mode.as_ref());
    if mode(wanted) != mode(spec.volume_mode.as_ref()) {
        return Err(format!("the source claim {name:?} and the claim have different volume modes"));
    }
    let has = controller_kit::pod_resources::parse(spec.capacity.as_ref()).get("storage").map(|amount| amount.units()).unwrap_or_default();
    if size < has {
        return Err(format!(
            "error, new PVC request must be greater than or equal in size to the specified PVC data source, requested {size} but source is {has}"
        ));
    }
    Ok(Type::Volume(VolumeSource { volume_id: source.volume_handle.clone() }))
}

fn of_snapshot(
    name: &str,
    snapshot: Option<&VolumeSnapshot>,
    content: Option<&VolumeSnapshotContent>,
    facts: &Facts,
    key: &ObjectKey,
    claim: &PersistentVolumeClaim,
    size: i64,
) -> Result<Type, String> {
    let snapshot =
        snapshot.ok_or_else(|| format!("error getting snapshot {name} from api server: volumesnapshots.snapshot.storage.k8s.io {name:?} not found"))?;
    if snapshot.metadata.deletion_timestamp.is_some() {
        return Err(format!("snapshot {name} is currently being deleted"));
    }
    if snapshot.status.as_ref().and_then(|status| status.ready_to_use) != Some(true) {
        return Err(format!("snapshot {name} is not Ready"));
    }
    let content = content.ok_or_else(|| format!("error getting snapshotcontent of snapshot {name} from api server: not found"))?;
    let full_name = format!("{}/{name}", key.namespace);
    let of = &content.spec.volume_snapshot_ref;
    if of.uid != snapshot.metadata.uid || of.name.as_deref() != Some(name) || of.namespace.as_deref() != Some(&*key.namespace) {
        return Err(format!("snapshotcontent {} for snapshot {full_name} is bound to a different snapshot", content.name()));
    }
    if content.spec.driver != facts.name {
        return Err(format!("snapshotcontent {} for snapshot {full_name} is handled by a different CSI driver than requested by StorageClass", content.name()));
    }
    if !facts.can(Rpc::CreateDeleteSnapshot) {
        return Err(format!("CSI driver does not support snapshot restore: plugin capabilities of {:?}", facts.name));
    }
    let handle = content.status.as_ref().and_then(|status| status.snapshot_handle.clone());
    let handle = handle.ok_or_else(|| format!("snapshot handle of {full_name} is not available"))?;
    if !tenancy::may_use(&key.cluster, &handle) {
        return Err(format!("snapshot handle {handle:?} is none that the host cluster has made for this virtual cluster"));
    }
    let least = content.status.as_ref().and_then(|status| status.restore_size).unwrap_or_default();
    if size < least {
        return Err(format!("requested volume size {size} is less than the size {least} for the source snapshot {name}"));
    }
    let wanted = claim.spec.as_ref().and_then(|spec| spec.volume_mode.as_ref());
    let may_change = content.metadata.annotations.as_ref().is_some_and(|all| all.get(MODE_CHANGE).is_some_and(|may| may == "true"));
    if content.spec.source_volume_mode.is_some() && mode(content.spec.source_volume_mode.as_ref()) != mode(wanted) && !may_change {
        return Err(format!(
            "requested volume {full_name} modifies the mode of the source volume but does not have permission to do so. {MODE_CHANGE} annotation is not present on snapshotcontent {}",
            content.name()
        ));
    }
    Ok(Type::Snapshot(SnapshotSource { snapshot_id: handle }))
}
