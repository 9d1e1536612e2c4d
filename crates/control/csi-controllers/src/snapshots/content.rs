//! Contents: held until the driver has let go, and told when their VolumeSnapshot goes.
use super::{BEING_DELETED, CONTENT_FINALIZER};
use controller_kit::volume_snapshot::{VolumeSnapshot, VolumeSnapshotContent};
use controller_kit::{Controller, Error, Kit, ObjectKey, Objects, Plan, Preconditions, Recorder, Runner, async_trait};
use serde_json::json;
use std::sync::Arc;

pub struct Contents {
    contents: Objects<VolumeSnapshotContent>,
    snapshots: Objects<VolumeSnapshot>,
    events: Recorder,
}

pub struct World {
    pub content: Arc<VolumeSnapshotContent>,
    /// The one it refers to, by name.
    pub snapshot: Option<Arc<VolumeSnapshot>>,
}

#[derive(Debug, PartialEq)]
pub enum Action {
    Hold,
    MarkDeleted,
    NotBound,
}

pub fn key_of_snapshot(content_key: &ObjectKey, content: &VolumeSnapshotContent) -> ObjectKey {
    let of = &content.spec.volume_snapshot_ref;
    ObjectKey::new(&content_key.cluster, of.namespace.as_deref().unwrap_or_default(), of.name.as_deref().unwrap_or_default())
}

pub fn runner(kit: &Kit) -> Runner<Contents> {
    let (contents, snapshots) = (kit.objects::<VolumeSnapshotContent>(), kit.objects::<VolumeSnapshot>());
    let controller = Contents { contents: contents.clone(), snapshots: snapshots.clone(), events: kit.recorder("snapshot-controller") };
    Runner::new(controller).watch_own(&contents).watch(&snapshots, |change| {
        // Only what goes or has gone matters here.
        let Some(snapshot) = change.new.as_ref().filter(|new| new.metadata.deletion_timestamp.is_some()).or(change.old.as_ref()) else { return Vec::new() };
        let bound = snapshot.status.as_ref().and_then(|status| status.bound_volume_snapshot_content_name.clone());
        bound.map(|name| ObjectKey::new(&change.key.cluster, "", &name)).into_iter().collect()
    })
}

#[async_trait]
impl Controller for Contents {
    type World = World;
    type Action = Action;

    fn name(&self) -> &'static str {
        "snapshot-content-controller"
    }

    fn observe(&self, key: &ObjectKey) -> Option<World> {
        let content = self.contents.get(key)?;
        let snapshot = self.snapshots.get(&key_of_snapshot(key, &content));
        Some(World { content, snapshot })
    }

    fn reconcile(world: &World) -> Plan<Action> {
        let World { content, snapshot } = world;
        let metadata = &content.metadata;
        let mut plan = Plan::nothing();
        if metadata.deletion_timestamp.is_none() && !metadata.finalizers.iter().flatten().any(|finalizer| finalizer == CONTENT_FINALIZER) {
            plan.push(Action::Hold);
        }
        let Some(uid) = content.spec.volume_snapshot_ref.uid.as_ref().filter(|uid| !uid.is_empty()) else {
            // Somebody made it for a snapshot that has not come for it yet.
            if metadata.deletion_timestamp.is_none() && snapshot.is_none() {
                plan.push(Action::NotBound);
            }
            return plan;
        };
        // Another one of the same name is not the one it belongs to.
        let own = snapshot.as_ref().filter(|snapshot| snapshot.metadata.uid.as_ref() == Some(uid));
        let goes = own.is_none_or(|snapshot| snapshot.metadata.deletion_timestamp.is_some());
        let marked = metadata.annotations.as_ref().is_some_and(|all| all.contains_key(BEING_DELETED));
        if goes && !marked {
            plan.push(Action::MarkDeleted);
        }
        plan
    }

    async fn act(&self, key: &ObjectKey, action: Action) -> Result<(), Error> {
        let Some(content) = self.contents.get(key) else { return Ok(()) };
        match action {
            Action::Hold => {
                let mut finalizers = content.metadata.finalizers.clone().unwrap_or_default();
                finalizers.push(CONTENT_FINALIZER.into());
                let patch = json!({"metadata": {"finalizers": finalizers}});
                self.contents.patch(key, "", &patch, &Preconditions::exactly(&content.metadata)).await.map(drop)
            }
            Action::MarkDeleted => {
                let patch = json!({"metadata": {"annotations": {BEING_DELETED: "yes"}}});
                self.contents.patch(key, "", &patch, &Preconditions::uid_of(&content.metadata)).await.map(drop)
            }
            Action::NotBound => {
                self.events.normal(&key.cluster, &*content, "SnapshotContentNotBound", "VolumeSnapshotContent is not bound to a VolumeSnapshot yet");
                Ok(())
            }
        }
    }
}
