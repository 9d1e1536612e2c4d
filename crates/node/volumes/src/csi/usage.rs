//! Usage: how full the volumes of a pod are, by their drivers' word.
use super::{CsiVolumes, record};
use crate::error::SetUpError;
use crate::manager::blocking;
use csi::v1::NodeGetVolumeStatsRequest;
use csi::v1::node_service_capability::rpc::Type as Rpc;
use csi::v1::volume_usage::Unit;
use std::path::PathBuf;
use std::time::Duration;

/// A driver that hangs must not hold up everybody else's figures.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a claim's volume holds. None where the driver does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VolumeUse {
    /// The claim, in the pod's namespace.
    pub claim: String,
    pub available_bytes: Option<u64>,
    pub capacity_bytes: Option<u64>,
    pub used_bytes: Option<u64>,
    pub inodes_free: Option<u64>,
    pub inodes: Option<u64>,
    pub inodes_used: Option<u64>,
    pub abnormal: Option<bool>,
}

impl CsiVolumes {
    /// The volumes of claims that are published to the pod of this directory, as far as their drivers tell.
    pub async fn usage(&self, pod_directory: PathBuf) -> Vec<VolumeUse> {
        let published = blocking(move || Ok::<_, SetUpError>(record::published_to(&pod_directory))).await.unwrap_or_default();
        let asked = published.into_iter().map(async |(directory, record)| {
            let claim = record.claim.clone()?;
            let plugin = self.plugins.now(&record.driver).filter(|plugin| plugin.can(Rpc::GetVolumeStats))?;
            let staged = plugin.can(Rpc::StageUnstageVolume).then(|| record.staged_at(&self.staging_directory(&record.driver, &record.volume_handle)));
            let request = NodeGetVolumeStatsRequest {
                volume_id: record.volume_handle.clone(),
                volume_path: record.target(&directory).display().to_string(),
                staging_target_path: staged.map(|path| path.display().to_string()).unwrap_or_default(),
            };
            let answer = tokio::time::timeout(PATIENCE, plugin.node.clone().node_get_volume_stats(request)).await.ok()?.ok()?.into_inner();
            let mut found = VolumeUse { claim, abnormal: answer.volume_condition.map(|condition| condition.abnormal), ..Default::default() };
            for usage in answer.usage {
                let figures = [usage.available, usage.total, usage.used].map(|figure| u64::try_from(figure).ok());
                match usage.unit() {
                    Unit::Bytes => [found.available_bytes, found.capacity_bytes, found.used_bytes] = figures,
                    Unit::Inodes => [found.inodes_free, found.inodes, found.inodes_used] = figures,
                    Unit::Unknown => {}
                }
            }
            Some(found)
        });
        futures::future::join_all(asked).await.into_iter().flatten().collect()
    }
}
