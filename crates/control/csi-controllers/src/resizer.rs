//! Resizer: makes volumes larger whose claims ask for more, and lets go of what can't be (KEP-1790).
use crate::claim_conditions;
use crate::deleter::is_here;
use crate::driver::{Driver, Facts, Rpc, is_final, is_infeasible, message, refused};
use crate::persistent_volume::quantity;
use crate::resize::{self, CONTROLLER_IN_PROGRESS, CONTROLLER_INFEASIBLE, NODE_PENDING, Sizes};
use crate::slow_retries::SlowRetries;
use controller_kit::{Controller, Error, Kit, ObjectKey, Objects, Plan, Preconditions, Recorder, Runner, async_trait, pod_resources, whole_seconds};
use csi::v1::{CapacityRange, ControllerExpandVolumeRequest, ControllerExpandVolumeResponse};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

/// The conditions of a claim that are about its size.
const KINDS: &[&str] = &["Resizing", PENDING, FAILED, "NodeResizeError"];
const PENDING: &str = "FileSystemResizePending";
const FAILED: &str = "ControllerResizeError";

pub struct Resizer {
    kit: Kit,
    driver: Driver,
    claims: Objects<PersistentVolumeClaim>,
    volumes: Objects<PersistentVolume>,
    events: Recorder,
    /// Claims whose last expansion the driver has refused for good.
    refused: Mutex<HashSet<ObjectKey>>,
    slow: SlowRetries,
}

pub struct World {
    pub facts: Arc<Facts>,
    pub claim: Arc<PersistentVolumeClaim>,
    pub volume: Arc<PersistentVolume>,
    /// Whether the driver's last word was a refusal.
    pub refused: bool,
    /// How long what was called impossible is not asked for again.
    pub wait: Option<Duration>,
}

#[derive(Debug, PartialEq)]
pub enum Action {
    /// Says on the claim what is about to be asked for.
    Begin(i64),
    Expand(Box<ControllerExpandVolumeRequest>),
}

pub fn runner(kit: &Kit, driver: Driver) -> Runner<Resizer> {
    let (claims, volumes) = (kit.objects::<PersistentVolumeClaim>(), kit.objects::<PersistentVolume>());
    let events = kit.recorder("external-resizer stor.plasmacloud.io");
    let (refused, slow) = (Mutex::default(), SlowRetries::default());
    let controller = Resizer { kit: kit.clone(), driver, claims: claims.clone(), volumes: volumes.clone(), events, refused, slow };
    Runner::new(controller).watch_own(&claims).needs(&volumes)
}

fn bytes(amounts: Option<&BTreeMap<String, Quantity>>) -> Option<i64> {
    pod_resources::parse(amounts).get("storage").map(|amount| amount.units())
}

#[async_trait]
impl Controller for Resizer {
    type World = World;
    type Action = Action;

    fn name(&self) -> &'static str {
        "csi-resizer"
    }

    fn observe(&self, key: &ObjectKey) -> Option<World> {
        let Some(claim) = self.claims.get(key) else {
            self.forget(key);
            return None;
        };
        let name = claim.spec.as_ref()?.volume_name.as_ref().filter(|name| !name.is_empty())?;
        let volume = self.volumes.get(&ObjectKey::new(&key.cluster, "", name))?;
        let (refused, wait) = (self.refused.lock().contains(key), self.slow.remaining(key, self.kit.clock().instant()));
        Some(World { facts: self.driver.facts.clone(), claim, volume, refused, wait })
    }

    fn reconcile(world: &World) -> Plan<Action> {
        let World { facts, claim, volume, .. } = world;
        let (Some(wanted), Some(has)) = (&claim.spec, &volume.spec) else { return Plan::nothing() };
        let Some(source) = has.csi.as_ref().filter(|source| source.driver == facts.name) else { return Plan::nothing() };
        let status = claim.status.clone().unwrap_or_default();
        let owned = has.claim_ref.as_ref().is_none_or(|of| of.uid.is_none() || of.uid == claim.metadata.uid);
        let (Some(asked), Some(size)) = (bytes(wanted.resources.as_ref().and_then(|resources| resources.requests.as_ref())), bytes(has.capacity.as_ref()))
        else {
            return Plan::nothing();
        };
        let grows = status.phase.as_deref() == Some("Bound") && asked > bytes(status.capacity.as_ref()).unwrap_or_default();
        if !grows || !owned || claim.metadata.deletion_timestamp.is_some() || !is_here(facts, volume) || !facts.can(Rpc::ExpandVolume) {
            return Plan::nothing();
        }
        let sizes = Sizes {
            asked,
            has: size,
            allocated: bytes(status.allocated_resources.as_ref()),
            state: resize::state(&status),
            pending: status.conditions.iter().flatten().any(|condition| condition.type_ == PENDING),
            refused: world.refused,
        };
        let Some(required_bytes) = resize::next(&sizes) else { return Plan::nothing() };
        let mut plan = Plan::nothing();
        let begun = sizes.allocated == Some(required_bytes) && !sizes.state.is_empty();
        if let Some(wait) = world.wait.filter(|_| begun) {
            plan.look_again(wait);
            return plan;
        }
        if !begun {
            plan.push(Action::Begin(required_bytes));
        }
        let capability = csi::access::capability(
            has.access_modes.as_deref().unwrap_or_default(),
            has.volume_mode.as_deref() == Some("Block"),
            source.fs_type.as_deref().unwrap_or_default(),
            has.mount_options.as_deref().unwrap_or_default(),
            facts.can(Rpc::SingleNodeMultiWriter),
        );
        plan.push(Action::Expand(Box::new(ControllerExpandVolumeRequest {
            volume_id: source.volume_handle.clone(),
            capacity_range: Some(CapacityRange { required_bytes, limit_bytes: 0 }),
            volume_capability: Some(capability),
            ..Default::default()
        })));
        plan
    }

    async fn act(&self, key: &ObjectKey, action: Action) -> Result<(), Error> {
        let Some(World { claim, volume, .. }) = self.observe(key) else { return Ok(()) };
        match action {
            Action::Begin(bytes) => {
                let status = begun(&claim, bytes, &whole_seconds(self.kit.now()));
                self.claims.patch(key, "/status", &json!({ "status": status }), &Preconditions::uid_of(&claim.metadata)).await.map(drop)
            }
            Action::Expand(request) => self.expand(key, &claim, &volume, *request).await,
        }
    }
}

impl Resizer {
    fn forget(&self, key: &ObjectKey) {
        self.refused.lock().remove(key);
        self.slow.remove(key);
    }

    async fn expand(
        &self,
        key: &ObjectKey,
        claim: &PersistentVolumeClaim,
        volume: &PersistentVolume,
        request: ControllerExpandVolumeRequest,
    ) -> Result<(), Error> {
        let name = volume.metadata.name.clone().unwrap_or_default();
        self.events.normal(&key.cluster, claim, "Resizing", format!("External resizer is resizing volume {name}"));
        let answer = match self.driver.controller.clone().controller_expand_volume(request).await {
            Ok(answer) => answer.into_inner(),
            Err(status) => {
                let why = format!("resize volume {name:?} by resizer {:?} failed: {}", self.driver.facts.name, message(&status));
                self.events.warning(&key.cluster, claim, "VolumeResizeFailed", &*why);
                self.tell_failure(key, claim, &status).await?;
                return Err(refused(&status));
            }
        };
        self.forget(key);
        let capacity = json!({"storage": quantity(answer.capacity_bytes)});
        let has = bytes(volume.spec.as_ref().and_then(|spec| spec.capacity.as_ref()));
        if has != Some(answer.capacity_bytes) {
            let volume_key = ObjectKey::of(&key.cluster, &volume.metadata);
            self.volumes.patch(&volume_key, "", &json!({"spec": {"capacity": capacity}}), &Preconditions::uid_of(&volume.metadata)).await?;
        }
        let status = expanded(claim, &answer, &whole_seconds(self.kit.now()));
        self.claims.patch(key, "/status", &json!({ "status": status }), &Preconditions::uid_of(&claim.metadata)).await?;
        let (reason, message) = if answer.node_expansion_required {
            ("FileSystemResizeRequired", "Require file system resize of volume on node")
        } else {
            ("VolumeResizeSuccessful", "Resize volume succeeded")
        };
        self.events.normal(&key.cluster, claim, reason, message);
        Ok(())
    }

    /// Says on the claim what keeps its volume from growing, if that is sure.
    async fn tell_failure(&self, key: &ObjectKey, claim: &PersistentVolumeClaim, status: &tonic::Status) -> Result<(), Error> {
        self.forget(key);
        if !is_final(status) {
            return Ok(());
        }
        self.refused.lock().insert(key.clone());
        if is_infeasible(status) {
            self.slow.add(key, self.kit.clock().instant());
        }
        let patch = failed(claim, status, &whole_seconds(self.kit.now()));
        self.claims.patch(key, "/status", &json!({ "status": patch }), &Preconditions::uid_of(&claim.metadata)).await.map(drop)
    }
}

/// The claim's conditions, in a status to patch with.
fn conditions(claim: &PersistentVolumeClaim, new: &[(&str, &str)], keep: bool, now: &Time) -> Value {
    let old = claim.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    json!({"conditions": claim_conditions::merge(old, KINDS, new, keep, now)})
}

/// The status of a claim for which the driver is asked now.
pub fn begun(claim: &PersistentVolumeClaim, bytes: i64, now: &Time) -> Value {
    let mut status = conditions(claim, &[("Resizing", "")], false, now);
    status["allocatedResources"] = json!({"storage": quantity(bytes)});
    status["allocatedResourceStatuses"] = json!({"storage": CONTROLLER_IN_PROGRESS});
    status
}

/// The status of a claim for which the driver has done its part.
pub fn expanded(claim: &PersistentVolumeClaim, answer: &ControllerExpandVolumeResponse, now: &Time) -> Value {
    if answer.node_expansion_required {
        let waits = "Waiting for user to (re-)start a pod to finish file system resize of volume on node.";
        let mut status = conditions(claim, &[(PENDING, waits)], false, now);
        status["allocatedResourceStatuses"] = json!({"storage": NODE_PENDING});
        return status;
    }
    let mut status = conditions(claim, &[], false, now);
    status["capacity"] = json!({"storage": quantity(answer.capacity_bytes)});
    status["allocatedResourceStatuses"] = Value::Null;
    status
}

/// The status of a claim for which the driver has refused for good.
pub fn failed(claim: &PersistentVolumeClaim, refusal: &tonic::Status, now: &Time) -> Value {
    let mut status = conditions(claim, &[(FAILED, &format!("failed to expand pvc with {}", message(refusal)))], true, now);
    if is_infeasible(refusal) {
        status["allocatedResourceStatuses"] = json!({"storage": CONTROLLER_INFEASIBLE});
    }
    status
}
