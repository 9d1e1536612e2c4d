//! Claims: what a bound PersistentVolumeClaim is on this node. The decisions are pure; `resolve` reads the API.
use crate::error::{SetUpError, VolumeError};
use crate::host_path;
use crate::manager::MountedVolume;
use crate::ownership::{self, FsGroup};
use crate::referenced_objects::api_message;
use k8s_openapi::api::core::v1::{HostPathVolumeSource, PersistentVolume, PersistentVolumeClaim, Pod, Volume};
use kube::api::Api;
use std::fs;
use std::path::Path;

/// A claim a pod names, directly or as the one made for its ephemeral volume.
pub struct Claim<'a> {
    pub volume: &'a str,
    pub name: String,
    pub read_only: bool,
    pub ephemeral: bool,
}

impl<'a> Claim<'a> {
    /// The claim behind a volume, if it has one.
    pub fn of(volume: &'a Volume, pod: &Pod) -> Option<Self> {
        if let Some(source) = &volume.persistent_volume_claim {
            return Some(Self { volume: &volume.name, name: source.claim_name.clone(), read_only: source.read_only == Some(true), ephemeral: false });
        }
        volume.ephemeral.as_ref()?;
        let name = format!("{}-{}", pod.metadata.name.as_deref().unwrap_or_default(), volume.name);
        Some(Self { volume: &volume.name, name, read_only: false, ephemeral: true })
    }
}

/// Reads the claim and its volume.
pub async fn resolve(client: kube::Client, pod: &Pod, claim: &Claim<'_>) -> Result<PersistentVolume, VolumeError> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let place = format!("error processing PVC {namespace}/{}", claim.name);
    let fail = |reason: String| VolumeError::Unresolved { volume: claim.volume.into(), reason: format!("{place}: {reason}") };
    let found = Api::<PersistentVolumeClaim>::namespaced(client.clone(), namespace)
        .get(&claim.name)
        .await
        .map_err(|error| fail(format!("failed to fetch PVC from API server: {}", api_message(&error))))?;
    let volume_name = bound_volume(&found, pod, claim).map_err(&fail)?;
    let volume = Api::<PersistentVolume>::all(client)
        .get(&volume_name)
        .await
        .map_err(|error| fail(format!("failed to fetch PV {volume_name} from API server: {}", api_message(&error))))?;
    let bound_to = volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref()).and_then(|r| r.uid.as_ref());
    if bound_to != found.metadata.uid.as_ref() {
        return Err(fail(format!("found PV {volume_name} with unexpected claimRef")));
    }
    Ok(volume)
}

/// Which volume a claim is bound to, or why the pod can't use it.
fn bound_volume(found: &PersistentVolumeClaim, pod: &Pod, claim: &Claim<'_>) -> Result<String, String> {
    let owned = found.metadata.owner_references.iter().flatten().any(|owner| owner.controller == Some(true) && Some(&owner.uid) == pod.metadata.uid.as_ref());
    if claim.ephemeral && !owned {
        let namespaced =
            |meta: &kube::api::ObjectMeta| format!("{}/{}", meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default());
        return Err(format!("PVC {} was not created for pod {} (pod is not owner)", namespaced(&found.metadata), namespaced(&pod.metadata)));
    }
    if found.metadata.deletion_timestamp.is_some() {
        return Err("PVC is being deleted".into());
    }
    let phase = found.status.as_ref().and_then(|s| s.phase.as_deref());
    let volume = found.spec.as_ref().and_then(|s| s.volume_name.clone()).filter(|name| !name.is_empty());
    match (phase, volume) {
        (Some("Bound"), Some(volume)) => Ok(volume),
        _ => Err("PVC is not bound".into()),
    }
}

/// Brings up a bound volume; `as_device` when a container wants it as a block device.
pub fn set_up(volume: &PersistentVolume, name: &str, read_only: bool, as_device: bool, fs_group: FsGroup) -> Result<MountedVolume, VolumeError> {
    let unresolved = |reason: String| VolumeError::Unresolved { volume: name.into(), reason };
    let failed = |cause: SetUpError| VolumeError::SetUp { volume: name.into(), cause };
    let own_name = volume.metadata.name.as_deref().unwrap_or_default();
    let spec = volume.spec.as_ref().ok_or_else(|| unresolved(format!("PV {own_name} has no spec")))?;
    let block = check_mode(volume, name, as_device)?;
    if let Some(source) = &spec.host_path {
        let host_path = host_path::set_up(source).map_err(failed)?;
        return Ok(MountedVolume { host_path, read_only, block });
    }
    if let Some(source) = &spec.local {
        let checked = HostPathVolumeSource { path: source.path.clone(), type_: None };
        let host_path = host_path::set_up(&checked).map_err(failed)?;
        let metadata = fs::metadata(&host_path).map_err(|error| failed(SetUpError::io("reading", &host_path)(error)))?;
        check_local(&host_path, &metadata, block).map_err(failed)?;
        if !block && !read_only {
            ownership::apply(&host_path, fs_group, false).map_err(failed)?;
        }
        return Ok(MountedVolume { host_path, read_only, block });
    }
    Err(unresolved(no_plugin(own_name)))
}

/// Whether the volume is a raw device, as the container must want it.
pub fn check_mode(volume: &PersistentVolume, name: &str, as_device: bool) -> Result<bool, VolumeError> {
    let refused = |reason: String| Err(VolumeError::Unresolved { volume: name.into(), reason });
    match (volume.spec.as_ref().and_then(|spec| spec.volume_mode.as_deref()) == Some("Block"), as_device) {
        (true, false) => refused(format!("volume {name} has volumeMode Block, but is specified in volumeMounts")),
        (false, true) => refused(format!("volume {name} has volumeMode Filesystem, but is specified in volumeDevices")),
        (block, _) => Ok(block),
    }
}

fn check_local(path: &Path, metadata: &fs::Metadata, block: bool) -> Result<(), SetUpError> {
    use std::os::unix::fs::FileTypeExt;
    let right = if block { metadata.file_type().is_block_device() } else { metadata.is_dir() };
    if right {
        return Ok(());
    }
    let wanted = if block { "a block device" } else { "a directory" };
    Err(SetUpError::Refused(format!("local volume path \"{}\" is not {wanted}", path.display())))
}

pub fn no_csi_driver(driver: &str) -> SetUpError {
    SetUpError::Refused(format!(
        "kubernetes.io/csi: mounter.SetUpAt failed to get CSI client: driver name {driver} not found in the list of registered CSI drivers"
    ))
}

pub fn no_plugin(volume: &str) -> String {
    format!("failed to get Plugin from volumeSpec for volume \"{volume}\" err=no volume plugin matched")
}
