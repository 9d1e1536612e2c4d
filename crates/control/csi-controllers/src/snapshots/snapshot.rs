//! Snapshots: given a class and a content, bound to it, told what became of it, and let go of in order.
use super::BEING_DELETED;
use crate::persistent_volume::quantity;
use controller_kit::volume_snapshot::{
    API_VERSION, ContentSource, ContentSpec, MANAGED_BY, SnapshotError, SnapshotStatus, VolumeSnapshot, VolumeSnapshotClass, VolumeSnapshotContent,
};
use controller_kit::{
    Controller, Deletion, Error, Kit, ObjectKey, Objects, Plan, Preconditions, Recorder, Runner, async_trait, node_selector, reference, whole_seconds,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde_json::{Value, json};
use std::sync::Arc;

pub const AS_SOURCE: &str = "snapshot.storage.kubernetes.io/volumesnapshot-as-source-protection";
pub const BOUND: &str = "snapshot.storage.kubernetes.io/volumesnapshot-bound-protection";
/// On a claim while snapshots of it are being made.
pub const CLAIM_AS_SOURCE: &str = "snapshot.storage.kubernetes.io/pvc-as-source-protection";
const DEFAULT_CLASS: &str = "snapshot.storage.kubernetes.io/is-default-class";

pub struct Snapshots {
    kit: Kit,
    snapshots: Objects<VolumeSnapshot>,
    contents: Objects<VolumeSnapshotContent>,
    classes: Objects<VolumeSnapshotClass>,
    claims: Objects<PersistentVolumeClaim>,
    volumes: Objects<PersistentVolume>,
    nodes: Objects<Node>,
    events: Recorder,
}

pub struct World {
    pub snapshot: Arc<VolumeSnapshot>,
    /// The one asked for by name, or the one that was made for the snapshot.
    pub content: Option<Arc<VolumeSnapshotContent>>,
    /// All of the cluster.
    pub classes: Vec<Arc<VolumeSnapshotClass>>,
    /// What it is made of, and that one's volume.
    pub claim: Option<Arc<PersistentVolumeClaim>>,
    pub volume: Option<Arc<PersistentVolume>>,
    /// The only node from which the volume is reached.
    pub node: Option<String>,
    /// Whether a claim waits for a volume made from this snapshot.
    pub restoring: bool,
    /// Whether another snapshot is still to be made of the claim.
    pub claim_is_needed: bool,
    pub now: Timestamp,
}

#[derive(Debug)]
pub enum Action {
    SetClass(String),
    SetFinalizers(Vec<String>),
    HoldClaim,
    LetClaimGo,
    CreateContent(Box<VolumeSnapshotContent>),
    /// Makes a content that existed before this snapshot its own.
    Bind {
        content: String,
        class: Option<String>,
    },
    MarkContent(String),
    DeleteContent(String),
    SetStatus(Box<SnapshotStatus>),
    Tell {
        warning: bool,
        reason: &'static str,
        message: String,
    },
}

/// The content that is made for a snapshot.
pub fn content_name(snapshot: &VolumeSnapshot) -> String {
    format!("snapcontent-{}", snapshot.metadata.uid.as_deref().unwrap_or_default())
}

pub fn runner(kit: &Kit) -> Runner<Snapshots> {
    let (snapshots, contents, classes) = (kit.objects::<VolumeSnapshot>(), kit.objects::<VolumeSnapshotContent>(), kit.objects::<VolumeSnapshotClass>());
    let (claims, volumes, nodes) = (kit.objects::<PersistentVolumeClaim>(), kit.objects::<PersistentVolume>(), kit.objects::<Node>());
    let controller = Snapshots {
        kit: kit.clone(),
        snapshots: snapshots.clone(),
        contents: contents.clone(),
        classes: classes.clone(),
        claims: claims.clone(),
        volumes: volumes.clone(),
        nodes: nodes.clone(),
        events: kit.recorder("snapshot-controller"),
    };
    let (of_class, of_claim, of_own) = (snapshots.clone(), snapshots.clone(), snapshots.clone());
    let key = |cluster: &api_meta::ClusterName, snapshot: &VolumeSnapshot| ObjectKey::of(cluster, &snapshot.metadata);
    Runner::new(controller)
        .watch(&snapshots, move |change| {
            // What becomes of one may free the claim for which another holds it.
            let source = |snapshot: &VolumeSnapshot| snapshot.spec.source.persistent_volume_claim_name.clone();
            let Some(claim) = change.new.as_ref().or(change.old.as_ref()).and_then(|snapshot| source(snapshot)) else { return vec![change.key.clone()] };
            let others = of_own.list(&change.key.cluster, Some(&change.key.namespace)).into_iter();
            let same = others.filter(|other| source(other).as_ref() == Some(&claim)).map(|other| key(&change.key.cluster, &other));
            same.chain([change.key.clone()]).collect()
        })
        .watch(&contents, |change| {
            let content = change.new.as_ref().or(change.old.as_ref());
            content.map(|content| super::content::key_of_snapshot(&change.key, content)).into_iter().collect()
        })
        .watch(&claims, move |change| {
            let snapshots = of_claim.list(&change.key.cluster, Some(&change.key.namespace)).into_iter();
            let restores = change.new.as_ref().or(change.old.as_ref()).and_then(|claim| claim.spec.as_ref()?.data_source.clone()).map(|source| source.name);
            let concerned = snapshots.filter(|snapshot| {
                snapshot.spec.source.persistent_volume_claim_name.as_deref() == Some(&*change.key.name) || restores.as_deref() == Some(snapshot.name())
            });
            concerned.map(|snapshot| key(&change.key.cluster, &snapshot)).collect()
        })
        .watch(&classes, move |change| {
            let waiting =
                of_class.list(&change.key.cluster, None).into_iter().filter(|snapshot| snapshot.status.as_ref().is_none_or(|s| s.ready_to_use != Some(true)));
            waiting.map(|snapshot| key(&change.key.cluster, &snapshot)).collect()
        })
        .needs(&volumes)
        .needs(&nodes)
}

#[async_trait]
impl Controller for Snapshots {
    type World = World;
    type Action = Action;

    fn name(&self) -> &'static str {
        "snapshot-controller"
    }

    fn observe(&self, key: &ObjectKey) -> Option<World> {
        let snapshot = self.snapshots.get(key)?;
        let source = &snapshot.spec.source;
        let in_cluster = |name: &str| ObjectKey::new(&key.cluster, "", name);
        let content = self.contents.get(&in_cluster(&source.volume_snapshot_content_name.clone().unwrap_or_else(|| content_name(&snapshot))));
        let claim = source.persistent_volume_claim_name.as_ref().and_then(|name| self.claims.get(&ObjectKey::new(&key.cluster, &key.namespace, name)));
        let volume = claim.as_ref().and_then(|claim| self.volumes.get(&in_cluster(claim.spec.as_ref()?.volume_name.as_deref()?)));
        let others = self.snapshots.list(&key.cluster, Some(&key.namespace));
        let is_pending = |other: &VolumeSnapshot| {
            let unready = other.status.as_ref().is_none_or(|status| status.ready_to_use != Some(true));
            unready && other.metadata.deletion_timestamp.is_none() && other.spec.source.persistent_volume_claim_name == source.persistent_volume_claim_name
        };
        let restores = |claim: &PersistentVolumeClaim| {
            let waits = claim.status.as_ref().and_then(|status| status.phase.as_deref()) != Some("Bound");
            let of = claim.spec.as_ref().and_then(|spec| spec.data_source.as_ref());
            waits && of.is_some_and(|of| of.kind == "VolumeSnapshot" && *of.name == *key.name)
        };
        let going = snapshot.metadata.deletion_timestamp.is_some();
        Some(World {
            content,
            classes: self.classes.list(&key.cluster, None),
            node: volume.as_ref().and_then(|volume| self.node_of(volume)),
            restoring: going && self.claims.list(&key.cluster, Some(&key.namespace)).iter().any(|claim| restores(claim)),
            claim_is_needed: others.iter().any(|other| other.metadata.uid != snapshot.metadata.uid && is_pending(other)),
            claim,
            volume,
            snapshot,
            now: self.kit.now(),
        })
    }

    fn reconcile(world: &World) -> Plan<Action> {
        let mut plan = Plan::nothing();
        if world.snapshot.metadata.deletion_timestamp.is_some() {
            go(world, &mut plan);
        } else {
            stay(world, &mut plan);
        }
        plan
    }

    async fn act(&self, key: &ObjectKey, action: Action) -> Result<(), Error> {
        let Some(snapshot) = self.snapshots.get(key) else { return Ok(()) };
        let in_cluster = |name: &str| ObjectKey::new(&key.cluster, "", name);
        match action {
            Action::SetClass(name) => {
                let patch = json!({"spec": {"volumeSnapshotClassName": name}});
                self.snapshots.patch(key, "", &patch, &Preconditions::uid_of(&snapshot.metadata)).await.map(drop)
            }
            Action::SetFinalizers(finalizers) => {
                let patch = json!({"metadata": {"finalizers": finalizers}});
                match self.snapshots.patch(key, "", &patch, &Preconditions::exactly(&snapshot.metadata)).await {
                    Err(error) if !error.is_not_found() => Err(error),
                    _ => Ok(()),
                }
            }
            Action::HoldClaim => self.claim_finalizer(key, &snapshot, true).await,
            Action::LetClaimGo => self.claim_finalizer(key, &snapshot, false).await,
            Action::CreateContent(content) => match self.contents.create(&key.cluster, &content).await {
                Err(error) if !error.is_already_exists() => {
                    let message = format!("Failed to create snapshot content with error {error}");
                    self.events.warning(&key.cluster, &*snapshot, "SnapshotContentCreationFailed", message);
                    Err(error)
                }
                _ => Ok(()),
            },
            Action::Bind { content, class } => {
                let key = in_cluster(&content);
                let Some(content) = self.contents.get(&key) else { return Ok(()) };
                let mut patch = json!({"spec": {"volumeSnapshotRef": reference(&*snapshot)}});
                if let Some(class) = class {
                    patch["spec"]["volumeSnapshotClassName"] = json!(class);
                }
                self.contents.patch(&key, "", &patch, &Preconditions::exactly(&content.metadata)).await.map(drop)
            }
            Action::MarkContent(name) => {
                let key = in_cluster(&name);
                let Some(content) = self.contents.get(&key) else { return Ok(()) };
                let patch = json!({"metadata": {"annotations": {BEING_DELETED: "yes"}}});
                self.contents.patch(&key, "", &patch, &Preconditions::uid_of(&content.metadata)).await.map(drop)
            }
            Action::DeleteContent(name) => {
                let key = in_cluster(&name);
                let Some(content) = self.contents.get(&key) else { return Ok(()) };
                let deleted = self.contents.delete(&key, &Deletion { preconditions: Preconditions::uid_of(&content.metadata), ..Default::default() }).await;
                if deleted.is_err() {
                    let message = "Failed to delete snapshot content API object";
                    self.events.warning(&key.cluster, &*snapshot, "SnapshotContentObjectDeleteError", message);
                }
                deleted
            }
            Action::SetStatus(status) => {
                let status = status_patch(&status)?;
                self.snapshots.patch(key, "/status", &json!({ "status": status }), &Preconditions::uid_of(&snapshot.metadata)).await.map(drop)
            }
            Action::Tell { warning: true, reason, message } => {
                self.events.warning(&key.cluster, &*snapshot, reason, message);
                Ok(())
            }
            Action::Tell { reason, message, .. } => {
                self.events.normal(&key.cluster, &*snapshot, reason, message);
                Ok(())
            }
        }
    }
}

/// What a status is patched with, so that it is this one. What is said of its beginning stays.
pub fn status_patch(status: &SnapshotStatus) -> Result<Value, serde_json::Error> {
    let mut status = serde_json::to_value(status)?;
    for field in ["error", "readyToUse", "restoreSize"] {
        // A merge keeps what it is not told of.
        status.as_object_mut().expect("a struct was encoded").entry(field).or_insert(Value::Null);
    }
    Ok(status)
}

impl Snapshots {
    /// The only node a volume is reached from; none where there are several, or all.
    fn node_of(&self, volume: &PersistentVolume) -> Option<String> {
        let required = volume.spec.as_ref()?.node_affinity.as_ref()?.required.as_ref()?;
        let terms = node_selector::terms(required);
        let nodes = self.nodes.list(&api_meta::ClusterName::root(), None);
        let name = |node: &Arc<Node>| node.metadata.name.clone().unwrap_or_default();
        let mut there = nodes.iter().filter(|node| terms.iter().any(|term| term.matches(&name(node), &node.metadata.labels)));
        let first = there.next().map(name)?;
        there.next().is_none().then_some(first)
    }

    async fn claim_finalizer(&self, key: &ObjectKey, snapshot: &VolumeSnapshot, hold: bool) -> Result<(), Error> {
        let Some(name) = &snapshot.spec.source.persistent_volume_claim_name else { return Ok(()) };
        let key = ObjectKey::new(&key.cluster, &key.namespace, name);
        let Some(claim) = self.claims.get(&key) else { return Ok(()) };
        let mut finalizers = claim.metadata.finalizers.clone().unwrap_or_default();
        finalizers.retain(|finalizer| finalizer != CLAIM_AS_SOURCE);
        if hold {
            finalizers.push(CLAIM_AS_SOURCE.into());
        }
        match self.claims.patch(&key, "", &json!({"metadata": {"finalizers": finalizers}}), &Preconditions::exactly(&claim.metadata)).await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }
}

fn has(metadata: &ObjectMeta, finalizer: &str) -> bool {
    metadata.finalizers.iter().flatten().any(|other| other == finalizer)
}

fn is_ready(snapshot: &VolumeSnapshot) -> bool {
    let status = snapshot.status.as_ref();
    status.is_some_and(|status| status.bound_volume_snapshot_content_name.is_some() && status.ready_to_use == Some(true))
}

fn release_claim(world: &World, plan: &mut Plan<Action>) {
    if world.claim.as_ref().is_some_and(|claim| has(&claim.metadata, CLAIM_AS_SOURCE)) && !world.claim_is_needed {
        plan.push(Action::LetClaimGo);
    }
}

/// One that is deleted: its content first, as the policy says, then itself.
fn go(world: &World, plan: &mut Plan<Action>) {
    let snapshot = &world.snapshot;
    release_claim(world, plan);
    if world.restoring {
        plan.push(Action::Tell { warning: false, reason: "SnapshotDeletePending", message: "Snapshot is being used to restore a PVC".into() });
        return;
    }
    let own = world
        .content
        .as_ref()
        .filter(|content| content.spec.volume_snapshot_ref.uid.is_some() && content.spec.volume_snapshot_ref.uid == snapshot.metadata.uid);
    if let Some(content) = own {
        if content.metadata.annotations.as_ref().is_none_or(|all| !all.contains_key(BEING_DELETED)) {
            plan.push(Action::MarkContent(content.name().into()));
        }
        if content.spec.deletion_policy == "Delete" {
            if content.metadata.deletion_timestamp.is_none() {
                plan.push(Action::DeleteContent(content.name().into()));
            }
            // It comes back here when the content has gone.
            return;
        }
    }
    let mut finalizers = snapshot.metadata.finalizers.clone().unwrap_or_default();
    let all = finalizers.len();
    finalizers.retain(|finalizer| finalizer != AS_SOURCE && finalizer != BOUND);
    if finalizers.len() < all {
        plan.push(Action::SetFinalizers(finalizers));
    }
}

fn stay(world: &World, plan: &mut Plan<Action>) {
    let snapshot = &world.snapshot;
    let source = &snapshot.spec.source;
    let class = match class(world) {
        Ok(class) => class,
        Err((reason, message)) => return fail(world, plan, reason, message),
    };
    if let (Some(class), None) = (class, &snapshot.spec.volume_snapshot_class_name) {
        // What comes next begins with the class there.
        plan.push(Action::SetClass(class.name().into()));
        return;
    }
    let bound = snapshot.status.as_ref().and_then(|status| status.bound_volume_snapshot_content_name.as_ref());
    let mut finalizers = snapshot.metadata.finalizers.clone().unwrap_or_default();
    let wanted = [Some(AS_SOURCE), bound.map(|_| BOUND)];
    let missing: Vec<String> = wanted.into_iter().flatten().filter(|finalizer| !has(&snapshot.metadata, finalizer)).map(str::to_owned).collect();
    if !missing.is_empty() {
        finalizers.extend(missing);
        plan.push(Action::SetFinalizers(finalizers));
    }
    if is_ready(snapshot) {
        match &world.content {
            None => fail(world, plan, "SnapshotContentMissing", "VolumeSnapshotContent is missing".into()),
            Some(content) if content.spec.volume_snapshot_ref.uid != snapshot.metadata.uid => {
                fail(world, plan, "SnapshotMisbound", "VolumeSnapshotContent is not bound to the VolumeSnapshot correctly".into());
            }
            Some(_) => release_claim(world, plan),
        }
        return;
    }
    match (&source.volume_snapshot_content_name, &world.content) {
        (Some(_), None) => fail(world, plan, "SnapshotContentMissing", "VolumeSnapshotContent is missing".into()),
        (Some(_), Some(content)) => match bind(snapshot, content) {
            Err(why) => fail(world, plan, "SnapshotBindFailed", format!("Snapshot failed to bind VolumeSnapshotContent, {why}")),
            Ok(true) => plan.push(Action::Bind { content: content.name().into(), class: snapshot.spec.volume_snapshot_class_name.clone() }),
            Ok(false) => tell(world, content, plan),
        },
        (None, Some(content)) => tell(world, content, plan),
        (None, None) => match new_content(world, class) {
            Ok(content) => {
                if world.claim.as_ref().is_some_and(|claim| !has(&claim.metadata, CLAIM_AS_SOURCE)) {
                    plan.push(Action::HoldClaim);
                }
                plan.push(Action::CreateContent(Box::new(content)));
                let message = format!("Waiting for a snapshot {} to be created by the CSI driver.", full_name(snapshot));
                plan.push(Action::Tell { warning: false, reason: "CreatingSnapshot", message });
            }
            Err(why) => fail(world, plan, "SnapshotContentCreationFailed", format!("Failed to create snapshot content with error {why}")),
        },
    }
}

fn full_name(snapshot: &VolumeSnapshot) -> String {
    format!("{}/{}", snapshot.metadata.namespace.as_deref().unwrap_or_default(), snapshot.name())
}

/// The class that is named, or the default one of the volume's driver. None for a snapshot that existed before.
fn class(world: &World) -> Result<Option<&Arc<VolumeSnapshotClass>>, (&'static str, String)> {
    let spec = &world.snapshot.spec;
    if let Some(name) = &spec.volume_snapshot_class_name {
        let found = world.classes.iter().find(|class| class.name() == name);
        let missing =
            || ("GetSnapshotClassFailed", format!("Failed to get snapshot class with error volumesnapshotclass.snapshot.storage.k8s.io {name:?} not found"));
        return if found.is_none() && !is_ready(&world.snapshot) { Err(missing()) } else { Ok(found) };
    }
    if spec.source.volume_snapshot_content_name.is_some() {
        return Ok(None);
    }
    let failed = |why: String| ("SetDefaultSnapshotClassFailed", format!("Failed to set default snapshot class with error {why}"));
    let driver = driver(world).map_err(failed)?;
    let is_default =
        |class: &&Arc<VolumeSnapshotClass>| class.metadata.annotations.as_ref().is_some_and(|all| all.get(DEFAULT_CLASS).is_some_and(|is| is == "true"));
    let found: Vec<_> = world.classes.iter().filter(|class| class.driver == driver).filter(is_default).collect();
    match found[..] {
        [class] => Ok(Some(class)),
        [] => Err(failed("cannot find default snapshot class".into())),
        _ => Err(failed(format!("{} default snapshot classes were found", found.len()))),
    }
}

/// The driver of the volume a snapshot is asked of.
fn driver(world: &World) -> Result<String, String> {
    let source = bound_volume(world)?.spec.as_ref().and_then(|spec| spec.csi.as_ref());
    source.map(|source| source.driver.clone()).ok_or_else(|| format!("snapshotting non-CSI volumes is not supported, snapshot:{}", full_name(&world.snapshot)))
}

/// The volume of the claim, which must be bound.
fn bound_volume(world: &World) -> Result<&Arc<PersistentVolume>, String> {
    let name = world.snapshot.spec.source.persistent_volume_claim_name.as_deref().unwrap_or_default();
    let Some(claim) = &world.claim else {
        return Err(format!("snapshot controller failed to update {} on API server: cannot get claim from snapshot", world.snapshot.name()));
    };
    let not_bound = || format!("the PVC {name} is not yet bound to a PV, will not attempt to take a snapshot");
    if claim.status.as_ref().and_then(|status| status.phase.as_deref()) != Some("Bound") {
        return Err(not_bound());
    }
    let volume = world.volume.as_ref().ok_or_else(not_bound)?;
    let of = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()).and_then(|of| of.uid.as_ref());
    if of.is_none() || of != claim.metadata.uid.as_ref() {
        return Err(format!("claim in dataSource not bound or invalid: the volume of PVC {name} is another claim's"));
    }
    Ok(volume)
}

/// The content that asks the driver for the snapshot.
fn new_content(world: &World, class: Option<&Arc<VolumeSnapshotClass>>) -> Result<VolumeSnapshotContent, String> {
    let snapshot = &world.snapshot;
    let class = class.ok_or_else(|| "cannot find the snapshot class".to_owned())?;
    let volume = bound_volume(world)?;
    let driver = driver(world)?;
    if class.driver != driver {
        return Err(format!("snapshot controller failed: driver {:?} of class {:?} is not that of the volume, {driver:?}", class.driver, class.name()));
    }
    let spec = volume.spec.clone().unwrap_or_default();
    let labels = world.node.as_ref().map(|node| [(MANAGED_BY.to_owned(), node.clone())].into());
    Ok(VolumeSnapshotContent {
        api_version: API_VERSION,
        kind: "VolumeSnapshotContent",
        metadata: ObjectMeta { name: Some(content_name(snapshot)), labels, finalizers: Some(vec![super::CONTENT_FINALIZER.into()]), ..Default::default() },
        spec: ContentSpec {
            volume_snapshot_ref: reference(&**snapshot),
            deletion_policy: class.deletion_policy.clone(),
            driver,
            volume_snapshot_class_name: Some(class.name().into()),
            source: ContentSource { volume_handle: spec.csi.map(|source| source.volume_handle), snapshot_handle: None },
            source_volume_mode: spec.volume_mode,
        },
        status: None,
    })
}

/// Whether a content that existed before has yet to be made the snapshot's own.
fn bind(snapshot: &VolumeSnapshot, content: &VolumeSnapshotContent) -> Result<bool, String> {
    let of = &content.spec.volume_snapshot_ref;
    if content.spec.source.snapshot_handle.is_none() {
        return Err(format!("snapshotHandle is missing from VolumeSnapshotContent {}", content.name()));
    }
    if of.name != snapshot.metadata.name || of.namespace != snapshot.metadata.namespace {
        return Err(format!("VolumeSnapshotContent {} is bound to a different snapshot", content.name()));
    }
    match of.uid.as_deref().filter(|uid| !uid.is_empty()) {
        None => Ok(true),
        uid if uid == snapshot.metadata.uid.as_deref() => Ok(false),
        Some(_) => Err(format!("VolumeSnapshotContent {} is bound to a different snapshot", content.name())),
    }
}

/// Tells on the snapshot what its content says.
fn tell(world: &World, content: &VolumeSnapshotContent, plan: &mut Plan<Action>) {
    let snapshot = &world.snapshot;
    if content.spec.volume_snapshot_ref.uid != snapshot.metadata.uid {
        return fail(world, plan, "SnapshotMisbound", "VolumeSnapshotContent is not bound to the VolumeSnapshot correctly".into());
    }
    let of = content.status.clone().unwrap_or_default();
    let time = of.creation_time.and_then(|nanoseconds| Timestamp::from_nanosecond(i128::from(nanoseconds)).ok()).map(whole_seconds);
    let has = snapshot.status.clone().unwrap_or_default();
    let wanted = SnapshotStatus {
        bound_volume_snapshot_content_name: Some(content.name().into()),
        creation_time: time.clone().or(has.creation_time.clone()),
        ready_to_use: Some(of.ready_to_use.unwrap_or(false)),
        restore_size: of.restore_size.map(|bytes| Quantity(quantity(bytes))).or(has.restore_size.clone()),
        error: of.error,
    };
    if wanted == has {
        return;
    }
    if has.creation_time.is_none() && time.is_some() {
        let message = format!("Snapshot {} was successfully created by the CSI driver.", full_name(snapshot));
        plan.push(Action::Tell { warning: false, reason: "SnapshotCreated", message });
    }
    if has.ready_to_use != Some(true) && wanted.ready_to_use == Some(true) {
        let message = format!("Snapshot {} is ready to use.", full_name(snapshot));
        plan.push(Action::Tell { warning: false, reason: "SnapshotReady", message });
    }
    plan.push(Action::SetStatus(Box::new(wanted)));
}

/// Tells what is wrong, once.
fn fail(world: &World, plan: &mut Plan<Action>, reason: &'static str, message: String) {
    let has = world.snapshot.status.clone().unwrap_or_default();
    if has.error.as_ref().and_then(|error| error.message.as_ref()) == Some(&message) {
        return;
    }
    let time: Option<Time> = Some(whole_seconds(world.now));
    let error = Some(SnapshotError { message: Some(message.clone()), time });
    plan.push(Action::SetStatus(Box::new(SnapshotStatus { ready_to_use: Some(false), error, ..has })));
    plan.push(Action::Tell { warning: true, reason, message });
}
