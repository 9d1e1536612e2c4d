//! Growing: the last step of an expansion, on the node, for a claim that waits for it.
use super::record::Record;
use super::{CsiVolumes, PLUGIN, refused};
use crate::claim;
use crate::error::SetUpError;
use crate::referenced_objects::api_message;
use csi::v1::node_service_capability::rpc::Type as Rpc;
use csi::v1::{CapacityRange, NodeExpandVolumeRequest};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use std::path::Path;

const PENDING: &str = "FileSystemResizePending";

impl CsiVolumes {
    /// Grows the file system of a published volume and tells the claim, if the claim waits for it.
    pub async fn grow(&self, client: kube::Client, pod_directory: &Path, claim: &PersistentVolumeClaim) -> Result<(), SetUpError> {
        let status = claim.status.clone().unwrap_or_default();
        let waits = status.conditions.iter().flatten().any(|condition| condition.type_ == PENDING && condition.status == "True");
        let Some(name) = claim.spec.as_ref().and_then(|spec| spec.volume_name.clone()).filter(|_| waits) else { return Ok(()) };
        let failed = |error: kube::Error| SetUpError::Refused(format!("expanding volume {name}: {}", api_message(&error)));
        let volume = Api::<PersistentVolume>::all(client.clone()).get(&name).await.map_err(failed)?;
        let spec = volume.spec.unwrap_or_default();
        let capacity = spec.capacity.clone().unwrap_or_default();
        let required = capacity.get("storage").and_then(|quantity| api_meta::Quantity::parse(&quantity.0).ok()).map(|quantity| quantity.units());
        let (Some(source), Some(required_bytes)) = (spec.csi, required) else { return Ok(()) };
        let directory = pod_directory.join("volumes").join(PLUGIN).join(&name);
        let Some(record) = Record::read(&directory) else { return Ok(()) };
        let plugin = self.plugins.get(&source.driver).await.ok_or_else(|| claim::no_csi_driver(&source.driver))?;
        if plugin.can(Rpc::ExpandVolume) {
            let _turn = self.turn(&record).await;
            let staging = self.staging_directory(&record.driver, &record.volume_handle);
            let request = NodeExpandVolumeRequest {
                volume_id: source.volume_handle.clone(),
                volume_path: record.target(&directory).display().to_string(),
                capacity_range: Some(CapacityRange { required_bytes, limit_bytes: 0 }),
                staging_target_path: record.staged_at(&staging).display().to_string(),
                volume_capability: Some(csi::access::capability(
                    spec.access_modes.as_deref().unwrap_or_default(),
                    record.block,
                    source.fs_type.as_deref().unwrap_or_default(),
                    spec.mount_options.as_deref().unwrap_or_default(),
                    plugin.can(Rpc::SingleNodeMultiWriter),
                )),
                ..Default::default()
            };
            plugin.node.clone().node_expand_volume(request).await.map_err(|status| refused("Expander.NodeExpand failed:", &status))?;
        }
        let left: Vec<_> = status.conditions.into_iter().flatten().filter(|condition| !matches!(condition.type_.as_str(), PENDING | "Resizing")).collect();
        let patch = json!({"metadata": {"uid": claim.metadata.uid}, "status": {"capacity": capacity, "conditions": left}});
        let claims = Api::<PersistentVolumeClaim>::namespaced(client, claim.metadata.namespace.as_deref().unwrap_or_default());
        claims.patch_status(claim.metadata.name.as_deref().unwrap_or_default(), &PatchParams::default(), &Patch::Merge(patch)).await.map_err(failed)?;
        Ok(())
    }
}
