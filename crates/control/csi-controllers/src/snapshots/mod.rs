//! Snapshots (snapshot.storage.k8s.io/v1): their kinds, the controller that binds them, and the one beside a driver that makes them.
//!
//! The parts of upstream's external-snapshotter: `snapshot` and `content` are its snapshot-controller with distributed
//! snapshotting, `snapshotter` is its csi-snapshotter.

mod content;
mod definitions;
mod snapshot;
pub mod snapshotter;
#[cfg(test)]
mod tests;

pub use definitions::{class, definitions};

use controller_kit::{CancellationToken, Kit, Roster};

/// The finalizer of contents, which goes when the driver has let go of the snapshot.
const CONTENT_FINALIZER: &str = "snapshot.storage.kubernetes.io/volumesnapshotcontent-bound-protection";
/// On a content whose VolumeSnapshot goes or has gone.
const BEING_DELETED: &str = "snapshot.storage.kubernetes.io/volumesnapshot-being-deleted";
/// On a content whose snapshot the driver was asked for, and may have made without this being known.
const BEING_CREATED: &str = "snapshot.storage.kubernetes.io/volumesnapshot-being-created";

/// Binds snapshots and contents in all clusters until `shutdown`, whatever drivers there are. Must be called inside a tokio runtime.
pub async fn run(kit: Kit, shutdown: CancellationToken) {
    roster(&kit, shutdown).run().await;
}

/// Those that run once, whatever drivers there are. Must be called inside a tokio runtime.
pub fn roster(kit: &Kit, shutdown: CancellationToken) -> Roster {
    let mut all = Roster::new(shutdown);
    all.add(snapshot::runner(kit));
    all.add(content::runner(kit));
    all
}
