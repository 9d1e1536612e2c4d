//! Inline: volumes that stand in the pod itself, made and taken away with it by their driver (KEP 596).
use super::publish::{DriverTraits, pod_info, secrets};
use super::record::Record;
use super::{CsiVolumes, PLUGIN, refused};
use crate::claim;
use crate::error::SetUpError;
use crate::manager::{MountedVolume, blocking};
use crate::ownership::{self, FsGroup};
use api_client::Clients;
use api_meta::ClusterName;
use csi::v1::NodePublishVolumeRequest;
use csi::v1::node_service_capability::rpc::Type as Rpc;
use csi::v1::volume_capability::AccessType;
use k8s_openapi::api::core::v1::{CSIVolumeSource, Pod, SecretReference};
use std::path::PathBuf;

/// A volume that a pod brings along.
pub struct Inline<'a> {
    pub cluster: &'a ClusterName,
    pub pod: &'a Pod,
    pub pod_directory: PathBuf,
    /// The volume's name in the pod.
    pub name: &'a str,
    pub source: &'a CSIVolumeSource,
    pub fs_group: FsGroup,
}

impl CsiVolumes {
    /// Has the driver make the volume right where the pod wants it; may be repeated at any moment.
    pub async fn publish_inline(&self, clients: &dyn Clients, wanted: Inline<'_>) -> Result<MountedVolume, SetUpError> {
        let Inline { source, pod, .. } = wanted;
        if !wanted.cluster.is_root() {
            // What a driver of the host makes of a pod's attributes nobody has judged.
            return Err(SetUpError::Refused(format!("kubernetes.io/csi: pods of a virtual cluster can't have inline volumes of driver {:?}", source.driver)));
        }
        let plugin = self.plugins.get(&source.driver).await.ok_or_else(|| claim::no_csi_driver(&source.driver))?;
        let traits = DriverTraits::read(clients, &source.driver).await?;
        traits.check_ephemeral(&source.driver)?;
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let fs_type = source.fs_type.clone().unwrap_or_default();
        let mut capability = ::csi::access::capability(&["ReadWriteOnce".to_owned()], false, &fs_type, &[], plugin.can(Rpc::SingleNodeMultiWriter));
        let driver_sets_group = plugin.can(Rpc::VolumeMountGroup);
        if let (true, Some(gid), Some(AccessType::Mount(mount))) = (driver_sets_group, wanted.fs_group.gid, &mut capability.access_type) {
            mount.volume_mount_group = gid.to_string();
        }
        let record = Record { driver: source.driver.clone(), volume_handle: ::csi::names::inline(uid, wanted.name), block: false, claim: None };
        let directory = wanted.pod_directory.join("volumes").join(PLUGIN).join(wanted.name);
        let target = record.target(&directory);
        let mut volume_context = source.volume_attributes.clone().unwrap_or_default();
        if traits.pod_info {
            volume_context.extend(pod_info(pod, true));
        }
        let secret =
            source.node_publish_secret_ref.as_ref().map(|of| SecretReference { name: Some(of.name.clone()), namespace: pod.metadata.namespace.clone() });
        let read_only = source.read_only == Some(true);

        let _turn = self.turn(&record).await;
        let own = record.clone();
        blocking(move || own.write(&directory)).await?;
        let request = NodePublishVolumeRequest {
            volume_id: record.volume_handle.clone(),
            target_path: target.display().to_string(),
            volume_capability: Some(capability),
            readonly: read_only,
            secrets: secrets(&clients.cluster(wanted.cluster), secret.as_ref()).await?,
            volume_context,
            ..Default::default()
        };
        plugin.node.clone().node_publish_volume(request).await.map_err(|status| refused("mounter.SetUpAt failed:", &status))?;
        if !read_only && !driver_sets_group && traits.gives_group(&fs_type, &["ReadWriteOnce".to_owned()]) {
            let (path, group) = (target.clone(), wanted.fs_group);
            blocking(move || ownership::apply(&path, group, false)).await?;
        }
        Ok(MountedVolume { host_path: target, read_only, block: false })
    }
}
