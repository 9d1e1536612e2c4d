//! Snapshotter: has the driver of this node make and delete the snapshots that contents ask for.
use super::{BEING_CREATED, BEING_DELETED, CONTENT_FINALIZER};
use crate::driver::{Driver, Facts, Rpc, message, refused};
use crate::tenancy;
use controller_kit::volume_snapshot::{ContentStatus, MANAGED_BY, SnapshotError, VolumeSnapshotClass, VolumeSnapshotContent};
use controller_kit::{Controller, Error, Kit, ObjectKey, Objects, Plan, Preconditions, Recorder, Runner, async_trait, whole_seconds};
use csi::v1::{CreateSnapshotRequest, DeleteSnapshotRequest, ListSnapshotsRequest, Snapshot};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Parameters of a class with this prefix are for whoever calls the driver, not for the driver.
const OWN_PREFIX: &str = "csi.storage.k8s.io/";
/// How often a driver is asked whether a snapshot it is making is ready.
const ASK_AGAIN: Duration = Duration::from_secs(5);

pub struct Snapshotter {
    kit: Kit,
    driver: Driver,
    contents: Objects<VolumeSnapshotContent>,
    classes: Objects<VolumeSnapshotClass>,
    events: Recorder,
}

pub struct World {
    pub key: ObjectKey,
    pub facts: Arc<Facts>,
    pub content: Arc<VolumeSnapshotContent>,
    /// The class it names; none where it names none.
    pub class: Option<Arc<VolumeSnapshotClass>>,
}

#[derive(Debug, PartialEq)]
pub enum Action {
    /// Remembers that the driver is asked now.
    Begin,
    /// The snapshot is made, and known by its handle.
    End,
    Create {
        name: String,
        volume_id: String,
        parameters: BTreeMap<String, String>,
    },
    /// Looks for one that exists already.
    Find(String),
    Delete(String),
    /// The driver has let go.
    Forget,
    LetGo,
    Refuse(String),
}

pub fn runner(kit: &Kit, driver: Driver) -> Runner<Snapshotter> {
    let (contents, classes) = (kit.objects::<VolumeSnapshotContent>(), kit.objects::<VolumeSnapshotClass>());
    let events = kit.recorder("csi-snapshotter stor.plasmacloud.io");
    let controller = Snapshotter { kit: kit.clone(), driver, contents: contents.clone(), classes: classes.clone(), events };
    Runner::new(controller).watch_own(&contents).needs(&classes)
}

#[async_trait]
impl Controller for Snapshotter {
    type World = World;
    type Action = Action;

    fn name(&self) -> &'static str {
        "csi-snapshotter"
    }

    fn observe(&self, key: &ObjectKey) -> Option<World> {
        let content = self.contents.get(key)?;
        let class = content.spec.volume_snapshot_class_name.as_ref().and_then(|name| self.classes.get(&ObjectKey::new(&key.cluster, "", name)));
        Some(World { key: key.clone(), facts: self.driver.facts.clone(), content, class })
    }

    fn reconcile(world: &World) -> Plan<Action> {
        let World { key, facts, content, class } = world;
        let mut plan = Plan::nothing();
        let is_ours = content.spec.driver == facts.name && content.node().is_none_or(|node| node == facts.node_name);
        if !is_ours || !facts.can(Rpc::CreateDeleteSnapshot) {
            return plan;
        }
        let status = content.status.clone().unwrap_or_default();
        let annotated = |name: &str| content.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(name));
        let source = &content.spec.source;
        let refuse = |why: String| Some(why).filter(|why| !is_told(content, why)).map(Action::Refuse);
        if content.metadata.deletion_timestamp.is_some() {
            let unbound = source.snapshot_handle.is_some() && content.spec.volume_snapshot_ref.uid.as_ref().is_none_or(String::is_empty);
            if !content.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == CONTENT_FINALIZER) || !(unbound || annotated(BEING_DELETED)) {
                return plan;
            }
            match &status.snapshot_handle {
                Some(handle) if content.spec.deletion_policy == "Delete" && tenancy::may_use(&key.cluster, handle) => {
                    plan.push(Action::Delete(handle.clone()));
                    plan.push(Action::Forget);
                    plan.push(Action::LetGo);
                }
                // The driver may have made it before this was known: asked again, it tells which one it is.
                None if annotated(BEING_CREATED) && content.spec.deletion_policy == "Delete" => plan.push(create(world).unwrap_or(Action::LetGo)),
                _ => plan.push(Action::LetGo),
            }
            return plan;
        }
        if status.ready_to_use == Some(true) {
            if annotated(BEING_CREATED) {
                plan.push(Action::End);
            }
            return plan;
        }
        if let Some(handle) = &source.snapshot_handle {
            if !tenancy::may_use(&key.cluster, handle) {
                plan.actions.extend(refuse(format!("snapshot handle {handle:?} is none that the host cluster has made for this virtual cluster")));
            } else if facts.can(Rpc::ListSnapshots) {
                plan.push(Action::Find(handle.clone()));
            }
            return plan;
        }
        if class.is_none() && content.spec.volume_snapshot_class_name.is_some() {
            let name = content.spec.volume_snapshot_class_name.as_deref().unwrap_or_default();
            plan.actions.extend(refuse(format!("volumesnapshotclass.snapshot.storage.k8s.io {name:?} not found")));
            return plan;
        }
        match create(world) {
            Err(why) => plan.actions.extend(refuse(why)),
            Ok(create) => {
                if !annotated(BEING_CREATED) {
                    plan.push(Action::Begin);
                }
                plan.push(create);
                if status.snapshot_handle.is_some() {
                    plan.look_again(ASK_AGAIN);
                }
            }
        }
        plan
    }

    async fn act(&self, key: &ObjectKey, action: Action) -> Result<(), Error> {
        let Some(content) = self.contents.get(key) else { return Ok(()) };
        let uid = Preconditions::uid_of(&content.metadata);
        match action {
            Action::Begin => {
                let patch = json!({"metadata": {"annotations": {BEING_CREATED: "yes"}}});
                self.contents.patch(key, "", &patch, &uid).await.map(drop)
            }
            Action::End => {
                let patch = json!({"metadata": {"annotations": {BEING_CREATED: null}}});
                self.contents.patch(key, "", &patch, &uid).await.map(drop)
            }
            Action::Create { name, volume_id, parameters } => {
                let request = CreateSnapshotRequest { source_volume_id: volume_id.clone(), name, parameters, ..Default::default() };
                match self.driver.controller.clone().create_snapshot(request).await {
                    Ok(answer) => {
                        self.tell(key, &content, &answer.into_inner().snapshot.unwrap_or_default()).await?;
                        self.act(key, Action::End).await
                    }
                    Err(status) => {
                        let why = format!("failed to take snapshot of the volume {volume_id}: {:?}", message(&status));
                        self.refuse(key, &content, &why).await?;
                        Err(refused(&status))
                    }
                }
            }
            Action::Find(handle) => {
                let request = ListSnapshotsRequest { snapshot_id: handle.clone(), ..Default::default() };
                let found = self.driver.controller.clone().list_snapshots(request).await.map_err(|status| refused(&status))?.into_inner();
                match found.entries.into_iter().find_map(|entry| entry.snapshot) {
                    Some(snapshot) => {
                        if self.driver.facts.topology.is_some() && content.node().is_none() {
                            // What is made of it can only be made here.
                            let patch = json!({"metadata": {"labels": {MANAGED_BY: self.driver.facts.node_name}}});
                            self.contents.patch(key, "", &patch, &uid).await?;
                        }
                        self.tell(key, &content, &snapshot).await
                    }
                    // Of several nodes another may have it.
                    None if self.driver.facts.topology.is_some() && content.node().is_none() => Ok(()),
                    None => self.refuse(key, &content, &format!("snapshot {handle:?} not found")).await,
                }
            }
            Action::Delete(handle) => {
                let request = DeleteSnapshotRequest { snapshot_id: handle, ..Default::default() };
                self.driver.controller.clone().delete_snapshot(request).await.map(drop).map_err(|status| {
                    self.events.warning(&key.cluster, &*content, "SnapshotDeleteError", "Failed to delete snapshot");
                    refused(&status)
                })
            }
            Action::Forget => self.contents.patch(key, "/status", &json!({ "status": forgotten() }), &uid).await.map(drop),
            Action::LetGo => {
                let mut finalizers = content.metadata.finalizers.clone().unwrap_or_default();
                finalizers.retain(|finalizer| finalizer != CONTENT_FINALIZER);
                match self.contents.patch(key, "", &json!({"metadata": {"finalizers": finalizers}}), &Preconditions::exactly(&content.metadata)).await {
                    Err(error) if !error.is_not_found() => Err(error),
                    _ => Ok(()),
                }
            }
            Action::Refuse(why) => self.refuse(key, &content, &why).await,
        }
    }
}

impl Snapshotter {
    async fn tell(&self, key: &ObjectKey, content: &VolumeSnapshotContent, snapshot: &Snapshot) -> Result<(), Error> {
        self.contents.patch(key, "/status", &json!({ "status": made(snapshot) }), &Preconditions::uid_of(&content.metadata)).await.map(drop)
    }

    /// Tells what is wrong, once.
    async fn refuse(&self, key: &ObjectKey, content: &VolumeSnapshotContent, why: &str) -> Result<(), Error> {
        if is_told(content, why) {
            return Ok(());
        }
        self.events.warning(&key.cluster, content, "SnapshotCreationFailed", failure(why));
        let patch = json!({ "status": failed(why, whole_seconds(self.kit.now())) });
        self.contents.patch(key, "/status", &patch, &Preconditions::uid_of(&content.metadata)).await.map(drop)
    }
}

fn failure(why: &str) -> String {
    format!("Failed to create snapshot: {why}")
}

fn is_told(content: &VolumeSnapshotContent, why: &str) -> bool {
    let told = content.status.as_ref().and_then(|status| status.error.as_ref()).and_then(|error| error.message.as_ref());
    told.is_some_and(|told| *told == failure(why))
}

/// The status of a content whose snapshot the driver has answered with.
pub fn made(snapshot: &Snapshot) -> Value {
    let time = snapshot.creation_time.map(|time| time.seconds.saturating_mul(1_000_000_000).saturating_add(i64::from(time.nanos)));
    let status = ContentStatus {
        snapshot_handle: Some(snapshot.snapshot_id.clone()),
        creation_time: time,
        restore_size: Some(snapshot.size_bytes).filter(|bytes| *bytes > 0),
        ready_to_use: Some(snapshot.ready_to_use),
        error: None,
    };
    let mut status = json!(status);
    status["error"] = Value::Null;
    status
}

/// The status of a content whose snapshot could not be had.
pub fn failed(why: &str, now: Time) -> Value {
    json!({"readyToUse": false, "error": SnapshotError { message: Some(failure(why)), time: Some(now) }})
}

/// The status of a content whose snapshot the driver has deleted.
pub fn forgotten() -> Value {
    json!({"snapshotHandle": null, "readyToUse": false, "creationTime": null, "restoreSize": null})
}

/// What the driver is asked for, or why it can't be asked.
fn create(world: &World) -> Result<Action, String> {
    let World { key, content, class, .. } = world;
    let handle = content.spec.source.volume_handle.clone().ok_or_else(|| "the content names no source".to_owned())?;
    if !tenancy::may_use(&key.cluster, &handle) {
        return Err(format!("volume handle {handle:?} is none that the host cluster has made for this virtual cluster"));
    }
    let of_class = class.iter().flat_map(|class| &class.parameters).filter(|(name, _)| !name.starts_with(OWN_PREFIX));
    let parameters: BTreeMap<String, String> = of_class.map(|(name, value)| (name.clone(), value.clone())).collect();
    if !parameters.is_empty() && !key.cluster.is_root() {
        // The driver is the host's, and so is what it may be told.
        return Err("the snapshot classes of a virtual cluster have no parameters".into());
    }
    let uid = content.spec.volume_snapshot_ref.uid.clone().unwrap_or_default();
    Ok(Action::Create { name: tenancy::volume_name(&key.cluster, &format!("snapshot-{uid}")), volume_id: handle, parameters })
}
