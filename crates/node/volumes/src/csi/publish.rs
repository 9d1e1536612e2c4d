//! Publish: stages a volume on the node and publishes it to a pod; may be repeated at any moment.
use super::record::Record;
use super::{CsiVolumes, PLUGIN, attachment, refused};
use crate::claim;
use crate::error::SetUpError;
use crate::manager::{MountedVolume, blocking};
use crate::ownership::{self, FsGroup};
use crate::referenced_objects::api_message;
use api_client::Clients;
use api_meta::ClusterName;
use csi::v1::node_service_capability::rpc::Type as Rpc;
use csi::v1::volume_capability::AccessType;
use csi::v1::{NodePublishVolumeRequest, NodeStageVolumeRequest};
use k8s_openapi::api::core::v1::{PersistentVolume, Pod, Secret, SecretReference};
use k8s_openapi::api::storage::v1::CSIDriver;
use kube::api::Api;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A volume that a pod wants.
pub struct Wanted<'a> {
    pub cluster: &'a ClusterName,
    pub pod: &'a Pod,
    pub pod_directory: PathBuf,
    pub volume: &'a PersistentVolume,
    pub read_only: bool,
    pub fs_group: FsGroup,
}

impl CsiVolumes {
    pub async fn publish(&self, clients: &dyn Clients, wanted: Wanted<'_>) -> Result<MountedVolume, SetUpError> {
        let spec = wanted.volume.spec.clone().unwrap_or_default();
        let Some(source) = spec.csi.clone() else { return Err(SetUpError::Refused("the volume has no CSI source".into())) };
        let name = wanted.volume.metadata.name.clone().unwrap_or_default();
        let plugin = self.plugins.get(&source.driver).await.ok_or_else(|| claim::no_csi_driver(&source.driver))?;
        let traits = DriverTraits::read(clients, &source.driver).await?;
        let client = clients.cluster(wanted.cluster);
        let publish_context = if traits.attaches {
            let node = self.node_name.get().map(String::as_str).unwrap_or_default();
            attachment::wait(client.clone(), &::csi::names::attachment(&source.volume_handle, &source.driver, node), &source.volume_handle).await?
        } else {
            BTreeMap::new()
        };
        let block = spec.volume_mode.as_deref() == Some("Block");
        let claim = spec.claim_ref.as_ref().and_then(|of| of.name.clone());
        let record = Record { driver: source.driver.clone(), volume_handle: source.volume_handle.clone(), block, claim };
        let mut capability = ::csi::access::capability(
            spec.access_modes.as_deref().unwrap_or_default(),
            block,
            source.fs_type.as_deref().unwrap_or_default(),
            spec.mount_options.as_deref().unwrap_or_default(),
            plugin.can(Rpc::SingleNodeMultiWriter),
        );
        let driver_sets_group = plugin.can(Rpc::VolumeMountGroup);
        if let (true, Some(gid), Some(AccessType::Mount(mount))) = (driver_sets_group, wanted.fs_group.gid, &mut capability.access_type) {
            mount.volume_mount_group = gid.to_string();
        }
        let mut volume_context = source.volume_attributes.clone().unwrap_or_default();
        let directory = wanted.pod_directory.join("volumes").join(PLUGIN).join(&name);
        let staging = self.staging_directory(&record.driver, &record.volume_handle);
        let (staged_at, target) = (record.staged_at(&staging), record.target(&directory));

        let _turn = self.turn(&record).await;
        let (own, of_pod, of_node) = (record.clone(), directory.clone(), staging.clone());
        let stages = plugin.can(Rpc::StageUnstageVolume);
        let parent = staged_at.clone();
        blocking(move || {
            own.write(&of_pod)?;
            if stages {
                own.write(&of_node)?;
                // The directory is the driver's to find; upstream's drivers expect it.
                std::fs::create_dir_all(&parent).map_err(SetUpError::io("creating", parent))?;
            }
            Ok::<_, SetUpError>(())
        })
        .await?;
        self.in_use_changed.notify_one();
        let mut node = plugin.node.clone();
        if stages {
            let request = NodeStageVolumeRequest {
                volume_id: source.volume_handle.clone(),
                publish_context: publish_context.clone(),
                staging_target_path: staged_at.display().to_string(),
                volume_capability: Some(capability.clone()),
                secrets: secrets(&client, source.node_stage_secret_ref.as_ref()).await?,
                volume_context: volume_context.clone(),
            };
            node.node_stage_volume(request).await.map_err(|status| refused("MountDevice failed:", &status))?;
        }
        if traits.pod_info {
            volume_context.extend(pod_info(wanted.pod, false));
        }
        let read_only = wanted.read_only || source.read_only == Some(true);
        let request = NodePublishVolumeRequest {
            volume_id: source.volume_handle.clone(),
            publish_context,
            staging_target_path: if stages { staged_at.display().to_string() } else { String::new() },
            target_path: target.display().to_string(),
            volume_capability: Some(capability),
            readonly: read_only,
            secrets: secrets(&client, source.node_publish_secret_ref.as_ref()).await?,
            volume_context,
        };
        node.node_publish_volume(request).await.map_err(|status| refused("mounter.SetUpAt failed:", &status))?;
        if !block
            && !read_only
            && !driver_sets_group
            && traits.gives_group(source.fs_type.as_deref().unwrap_or_default(), spec.access_modes.as_deref().unwrap_or_default())
        {
            let (path, group) = (target.clone(), wanted.fs_group);
            blocking(move || ownership::apply(&path, group, false)).await?;
        }
        Ok(MountedVolume { host_path: target, read_only, block })
    }
}

/// What the CSIDriver object says; the API's defaults where there is none.
pub struct DriverTraits {
    attaches: bool,
    pub pod_info: bool,
    group_policy: String,
    /// None where there is no object.
    modes: Option<Vec<String>>,
}

impl DriverTraits {
    pub async fn read(clients: &dyn Clients, driver: &str) -> Result<Self, SetUpError> {
        let api: Api<CSIDriver> = Api::all(clients.cluster(&ClusterName::root()));
        let found = api.get_opt(driver).await.map_err(|error| SetUpError::Refused(format!("CSIDriver {driver} can't be read: {}", api_message(&error))))?;
        let modes = found.as_ref().map(|driver| driver.spec.volume_lifecycle_modes.clone().unwrap_or_else(|| vec!["Persistent".into()]));
        let spec = found.map(|driver| driver.spec).unwrap_or_default();
        Ok(Self {
            modes,
            attaches: spec.attach_required != Some(false),
            pod_info: spec.pod_info_on_mount == Some(true),
            group_policy: spec.fs_group_policy.unwrap_or_else(|| "ReadWriteOnceWithFSType".into()),
        })
    }

    /// Whether the driver serves volumes that stand in a pod.
    pub fn check_ephemeral(&self, driver: &str) -> Result<(), SetUpError> {
        let refuse = |why: String| Err(SetUpError::Refused(format!("kubernetes.io/csi: mounter.SetUpAt failed to check volume lifecycle mode: {why}")));
        match &self.modes {
            Some(modes) if modes.iter().any(|mode| mode == "Ephemeral") => Ok(()),
            Some(modes) => refuse(format!("volume mode \"Ephemeral\" not supported by driver {driver} (only supports {modes:?})")),
            None => refuse(format!("volume mode \"Ephemeral\" not supported by driver {driver} (no CSIDriver object)")),
        }
    }

    pub fn gives_group(&self, fs_type: &str, access_modes: &[String]) -> bool {
        match self.group_policy.as_str() {
            "None" => false,
            "File" => true,
            _ => {
                let once = access_modes.iter().any(|mode| matches!(mode.as_str(), "ReadWriteOnce" | "ReadWriteOncePod"));
                once && !fs_type.is_empty()
            }
        }
    }
}

pub fn pod_info(pod: &Pod, ephemeral: bool) -> BTreeMap<String, String> {
    let spec = pod.spec.clone().unwrap_or_default();
    let all = [
        ("pod.name", pod.metadata.name.clone()),
        ("pod.namespace", pod.metadata.namespace.clone()),
        ("pod.uid", pod.metadata.uid.clone()),
        ("serviceAccount.name", spec.service_account_name),
        ("ephemeral", Some(ephemeral.to_string())),
    ];
    all.into_iter().map(|(key, value)| (format!("csi.storage.k8s.io/{key}"), value.unwrap_or_default())).collect()
}

pub async fn secrets(client: &kube::Client, reference: Option<&SecretReference>) -> Result<BTreeMap<String, String>, SetUpError> {
    let Some(reference) = reference else { return Ok(BTreeMap::new()) };
    let (namespace, name) = (reference.namespace.as_deref().unwrap_or_default(), reference.name.as_deref().unwrap_or_default());
    let secret = Api::<Secret>::namespaced(client.clone(), namespace).get(name).await;
    let secret = secret.map_err(|error| SetUpError::Refused(format!("fetching NodeStageSecretRef {namespace}/{name} failed: {}", api_message(&error))))?;
    let text = |value: k8s_openapi::ByteString| {
        String::from_utf8(value.0).map_err(|_| SetUpError::Refused(format!("secret {namespace}/{name} has a value that is no text")))
    };
    secret.data.into_iter().flatten().map(|(key, value)| Ok((key, text(value)?))).collect()
}
