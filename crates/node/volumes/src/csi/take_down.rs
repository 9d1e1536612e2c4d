//! Taking down: unpublishes a pod's volumes, and unstages those that no pod has any more.
use super::record::{self, Record};
use super::{CsiVolumes, refused};
use crate::claim;
use crate::error::SetUpError;
use crate::manager::blocking;
use csi::v1::{NodeUnpublishVolumeRequest, NodeUnstageVolumeRequest};
use std::path::Path;

impl CsiVolumes {
    /// Unpublishes all volumes of a pod, by what the disk says of it. May be repeated.
    pub async fn unpublish(&self, pod_directory: &Path) -> Result<(), SetUpError> {
        for (directory, record) in record::published_to(pod_directory) {
            let _turn = self.turn(&record).await;
            let plugin = self.plugins.get(&record.driver).await.ok_or_else(|| claim::no_csi_driver(&record.driver))?;
            let request = NodeUnpublishVolumeRequest { volume_id: record.volume_handle.clone(), target_path: record.target(&directory).display().to_string() };
            plugin.node.clone().node_unpublish_volume(request).await.map_err(|status| refused("Unmounter.TearDownAt failed:", &status))?;
            let target = record.target(&directory);
            blocking(move || {
                // Some drivers leave the empty directory.
                match std::fs::remove_dir(&target) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(SetUpError::io("removing", target)(error)),
                    _ => {}
                }
                Record::remove(&directory).map_err(SetUpError::io("removing", directory))
            })
            .await?;
            self.unstage(&record).await?;
        }
        Ok(())
    }

    /// Unstages what no pod has, as after a crash between the two.
    pub async fn sweep(&self, driver: &str) {
        for (_, record) in record::staged(&self.root).into_iter().filter(|(_, record)| record.driver == driver) {
            let _turn = self.turn(&record).await;
            if let Err(error) = self.unstage(&record).await {
                tracing::warn!(driver, volume = record.volume_handle, %error, "a volume that no pod has can't be unstaged");
            }
        }
    }

    /// Must be called in the volume's turn.
    async fn unstage(&self, record: &Record) -> Result<(), SetUpError> {
        let (root, own) = (self.root.clone(), record.clone());
        let same = move |other: &Record| other.driver == own.driver && other.volume_handle == own.volume_handle;
        let in_use = blocking(move || Ok::<_, SetUpError>(record::published(&root).iter().any(|(_, other)| same(other)))).await?;
        let staging = self.staging_directory(&record.driver, &record.volume_handle);
        let Some(staged) = Record::read(&staging).filter(|_| !in_use) else { return Ok(()) };
        let plugin = self.plugins.get(&record.driver).await.ok_or_else(|| claim::no_csi_driver(&record.driver))?;
        let point = staged.staged_at(&staging);
        let request = NodeUnstageVolumeRequest { volume_id: record.volume_handle.clone(), staging_target_path: point.display().to_string() };
        plugin.node.clone().node_unstage_volume(request).await.map_err(|status| refused("Unmounter.UnmountDevice failed:", &status))?;
        blocking(move || {
            match std::fs::remove_dir(&point) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(SetUpError::io("removing", point)(error)),
                _ => {}
            }
            Record::remove(&staging).map_err(SetUpError::io("removing", staging))
        })
        .await?;
        self.in_use_changed.notify_one();
        Ok(())
    }
}
