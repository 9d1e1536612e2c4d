//! Orphans: volumes and snapshots of virtual clusters that were removed, objects and all, so that nobody asks for their deletion.
use crate::driver::{Driver, Rpc, message};
use api_meta::ClusterName;
use controller_kit::{CancellationToken, Kit, ObjectKey};
use csi::v1::{ControllerUnpublishVolumeRequest, DeleteSnapshotRequest, DeleteVolumeRequest, ListSnapshotsRequest, ListVolumesRequest};
use k8s_openapi::api::core::v1::Namespace;
use std::time::Duration;
use tonic::Status;

/// Between attempts while nodes still let go of such volumes.
const RETRY: Duration = Duration::from_secs(1);
const SLOWEST_RETRY: Duration = Duration::from_secs(60);

/// The cluster a volume belongs to by its handle; none of the host's own.
fn owner(handle: &str) -> Option<ClusterName> {
    ClusterName::parse(handle.split_once('_')?.0).ok()
}

/// Looks at the start and whenever a cluster goes; nothing in between.
pub async fn run(kit: Kit, driver: Driver, stop: CancellationToken) {
    if !driver.facts.can(Rpc::ListVolumes) {
        return;
    }
    let namespaces = kit.objects::<Namespace>();
    let follow = async {
        namespaces.synced().await;
        let mut changes = namespaces.subscribe();
        // Every cluster has this namespace from its first moment to its last.
        let lives = |cluster: &ClusterName| namespaces.get(&ObjectKey::new(cluster, "", "kube-system")).is_some();
        loop {
            let mut wait = RETRY;
            while let Err(status) = sweep(&driver, &lives).await {
                tracing::debug!(error = message(&status), "volumes of a removed cluster can't be deleted yet");
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(SLOWEST_RETRY);
            }
            loop {
                match changes.recv().await {
                    Ok(change) if change.new.is_some() || change.key.cluster.is_root() => {}
                    Err(tokio::sync::broadcast::error::RecvError::Closed) => return,
                    // Lagging only means that there was much news.
                    _ => break,
                }
            }
        }
    };
    // Told to stop: what is left is found again at the next start.
    let _ = stop.run_until_cancelled(follow).await;
}

/// Deletes all there are, those that can be; gives the last refusal.
async fn sweep(driver: &Driver, lives: &(impl Fn(&ClusterName) -> bool + Sync)) -> Result<(), Status> {
    let (mut controller, mut token, mut refused) = (driver.controller.clone(), String::new(), Ok(()));
    loop {
        let page = controller.list_volumes(ListVolumesRequest { max_entries: 500, starting_token: token }).await?.into_inner();
        let handles = page.entries.into_iter().filter_map(|entry| entry.volume).map(|volume| volume.volume_id);
        for volume_id in handles.filter(|handle| owner(handle).is_some_and(|cluster| !lives(&cluster))) {
            tracing::info!(volume = volume_id, "a volume of a cluster that was removed is deleted");
            let node_id = driver.facts.node_id.clone();
            let detach = ControllerUnpublishVolumeRequest { volume_id: volume_id.clone(), node_id, ..Default::default() };
            let gone = match controller.controller_unpublish_volume(detach).await {
                Ok(_) => controller.delete_volume(DeleteVolumeRequest { volume_id, ..Default::default() }).await.map(drop),
                Err(status) => Err(status),
            };
            refused = refused.and(gone);
        }
        if page.next_token.is_empty() {
            return refused.and(sweep_snapshots(driver, lives).await);
        }
        token = page.next_token;
    }
}

async fn sweep_snapshots(driver: &Driver, lives: &(impl Fn(&ClusterName) -> bool + Sync)) -> Result<(), Status> {
    if !driver.facts.can(Rpc::ListSnapshots) {
        return Ok(());
    }
    let (mut controller, mut token, mut refused) = (driver.controller.clone(), String::new(), Ok(()));
    loop {
        let page = controller.list_snapshots(ListSnapshotsRequest { max_entries: 500, starting_token: token, ..Default::default() }).await?.into_inner();
        let handles = page.entries.into_iter().filter_map(|entry| entry.snapshot).map(|snapshot| snapshot.snapshot_id);
        for snapshot_id in handles.filter(|handle| owner(handle).is_some_and(|cluster| !lives(&cluster))) {
            tracing::info!(snapshot = snapshot_id, "a snapshot of a cluster that was removed is deleted");
            refused = refused.and(controller.delete_snapshot(DeleteSnapshotRequest { snapshot_id, ..Default::default() }).await.map(drop));
        }
        if page.next_token.is_empty() {
            return refused;
        }
        token = page.next_token;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_says_whose_the_volume_is() {
        assert_eq!(owner("same.team-a_pvc-1").unwrap().as_str(), "same.team-a");
        assert_eq!(owner("vol-0123456789abcdef01234567"), None);
        assert_eq!(owner("snap-1"), None);
    }
}
