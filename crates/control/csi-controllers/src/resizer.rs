//! Resizer: makes volumes larger whose claims ask for more.
use crate::deleter::is_here;
use crate::driver::{Driver, Facts, Rpc, message, refused};
use crate::persistent_volume::quantity;
use controller_kit::{Controller, Error, Kit, ObjectKey, Objects, Plan, Preconditions, Recorder, Runner, async_trait, pod_resources, whole_seconds};
use csi::v1::{CapacityRange, ControllerExpandVolumeRequest};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use serde_json::json;
use std::sync::Arc;

/// The condition of a claim whose volume could not be made larger.
const FAILED: &str = "ControllerResizeError";

pub struct Resizer {
    kit: Kit,
    driver: Driver,
    claims: Objects<PersistentVolumeClaim>,
    volumes: Objects<PersistentVolume>,
    events: Recorder,
}

pub struct World {
    pub facts: Arc<Facts>,
    pub claim: Arc<PersistentVolumeClaim>,
    pub volume: Arc<PersistentVolume>,
}

#[derive(Debug, PartialEq)]
pub enum Action {
    Expand(Box<ControllerExpandVolumeRequest>),
}

pub fn runner(kit: &Kit, driver: Driver) -> Runner<Resizer> {
    let (claims, volumes) = (kit.objects::<PersistentVolumeClaim>(), kit.objects::<PersistentVolume>());
    let events = kit.recorder("external-resizer stor.plasmacloud.io");
    let controller = Resizer { kit: kit.clone(), driver, claims: claims.clone(), volumes: volumes.clone(), events };
    Runner::new(controller).watch_own(&claims).needs(&volumes)
}

#[async_trait]
impl Controller for Resizer {
    type World = World;
    type Action = Action;

    fn name(&self) -> &'static str {
        "csi-resizer"
    }

    fn observe(&self, key: &ObjectKey) -> Option<World> {
        let claim = self.claims.get(key)?;
        let name = claim.spec.as_ref()?.volume_name.as_ref().filter(|name| !name.is_empty())?;
        let volume = self.volumes.get(&ObjectKey::new(&key.cluster, "", name))?;
        Some(World { facts: self.driver.facts.clone(), claim, volume })
    }

    fn reconcile(world: &World) -> Plan<Action> {
        let World { facts, claim, volume } = world;
        let (Some(wanted), Some(has)) = (&claim.spec, &volume.spec) else { return Plan::nothing() };
        let Some(source) = has.csi.as_ref().filter(|source| source.driver == facts.name) else { return Plan::nothing() };
        let bound = claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound");
        let asked = pod_resources::parse(wanted.resources.as_ref().and_then(|resources| resources.requests.as_ref())).get("storage").copied();
        let size = pod_resources::parse(has.capacity.as_ref()).get("storage").copied();
        let told = pod_resources::parse(claim.status.as_ref().and_then(|status| status.capacity.as_ref())).get("storage").copied();
        let pending = claim.status.iter().flat_map(|status| status.conditions.iter().flatten()).any(|condition| condition.type_ == "FileSystemResizePending");
        // A volume that is larger than its claim says was grown by somebody who died before telling the node.
        let grows = asked > size || (asked > told && !pending);
        if !bound || !grows || claim.metadata.deletion_timestamp.is_some() || !is_here(facts, volume) || !facts.can(Rpc::ExpandVolume) {
            return Plan::nothing();
        }
        let capability = csi::access::capability(
            has.access_modes.as_deref().unwrap_or_default(),
            has.volume_mode.as_deref() == Some("Block"),
            source.fs_type.as_deref().unwrap_or_default(),
            has.mount_options.as_deref().unwrap_or_default(),
            facts.can(Rpc::SingleNodeMultiWriter),
        );
        let required_bytes = asked.map(|asked| asked.units()).unwrap_or_default();
        vec![Action::Expand(Box::new(ControllerExpandVolumeRequest {
            volume_id: source.volume_handle.clone(),
            capacity_range: Some(CapacityRange { required_bytes, limit_bytes: 0 }),
            volume_capability: Some(capability),
            ..Default::default()
        }))]
        .into()
    }

    async fn act(&self, key: &ObjectKey, Action::Expand(request): Action) -> Result<(), Error> {
        let Some(world) = self.observe(key) else { return Ok(()) };
        let World { claim, volume, .. } = world;
        let name = volume.metadata.name.clone().unwrap_or_default();
        self.events.normal(&key.cluster, &*claim, "Resizing", format!("External resizer is resizing volume {name}"));
        let answer = match self.driver.controller.clone().controller_expand_volume(*request).await {
            Ok(answer) => answer.into_inner(),
            Err(status) => {
                let why = format!("resize volume {name:?} by resizer {:?} failed: {}", self.driver.facts.name, message(&status));
                self.events.warning(&key.cluster, &*claim, "VolumeResizeFailed", &*why);
                self.tell_failure(key, &claim, &why).await?;
                return Err(refused(&status));
            }
        };
        let capacity = json!({"storage": quantity(answer.capacity_bytes)});
        let volume_key = ObjectKey::of(&key.cluster, &volume.metadata);
        self.volumes.patch(&volume_key, "", &json!({"spec": {"capacity": capacity}}), &Preconditions::uid_of(&volume.metadata)).await?;
        let mut conditions = claim.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
        conditions.retain(|condition| !matches!(condition.type_.as_str(), "Resizing" | "FileSystemResizePending" | FAILED));
        let mut conditions = json!(conditions);
        if answer.node_expansion_required {
            let pending = json!({
                "type": "FileSystemResizePending", "status": "True", "lastTransitionTime": whole_seconds(self.kit.now()),
                "message": "Waiting for user to (re-)start a pod to finish file system resize of volume on node.",
            });
            conditions.as_array_mut().expect("a list was encoded").push(pending);
            self.claims.patch(key, "/status", &json!({"status": {"conditions": conditions}}), &Preconditions::uid_of(&claim.metadata)).await?;
            self.events.normal(&key.cluster, &*claim, "FileSystemResizeRequired", "Require file system resize of volume on node");
        } else {
            let status = json!({"status": {"conditions": conditions, "capacity": capacity}});
            self.claims.patch(key, "/status", &status, &Preconditions::uid_of(&claim.metadata)).await?;
            self.events.normal(&key.cluster, &*claim, "VolumeResizeSuccessful", "Resize volume succeeded");
        }
        Ok(())
    }
}

impl Resizer {
    /// Says on the claim what keeps its volume from growing: once, as each writing has this controller look again, and what a driver says of
    /// the room it has left is never the same twice. The events tell the rest.
    async fn tell_failure(&self, key: &ObjectKey, claim: &PersistentVolumeClaim, why: &str) -> Result<(), Error> {
        let conditions = claim.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
        if conditions.iter().any(|condition| condition.type_ == FAILED) {
            return Ok(());
        }
        let mut conditions = json!(conditions);
        let failed = json!({"type": FAILED, "status": "True", "lastTransitionTime": whole_seconds(self.kit.now()), "message": why});
        conditions.as_array_mut().expect("a list was encoded").push(failed);
        self.claims.patch(key, "/status", &json!({"status": {"conditions": conditions}}), &Preconditions::uid_of(&claim.metadata)).await.map(drop)
    }
}
