//! Deleter: deletes the volume of a PersistentVolume that nobody claims any more, then the object.
use crate::driver::{Driver, Facts, message, refused};
use crate::persistent_volume::{FINALIZER, PROVISIONED_BY};
use controller_kit::{Controller, Deletion, Error, Kit, ObjectKey, Objects, Plan, Preconditions, Recorder, Runner, async_trait, node_selector};
use csi::v1::DeleteVolumeRequest;
use k8s_openapi::api::core::v1::PersistentVolume;
use k8s_openapi::api::storage::v1::VolumeAttachment;
use serde_json::json;
use std::sync::Arc;

pub struct Deleter {
    driver: Driver,
    volumes: Objects<PersistentVolume>,
    attachments: Objects<VolumeAttachment>,
    events: Recorder,
}

pub struct World {
    pub facts: Arc<Facts>,
    pub volume: Arc<PersistentVolume>,
    /// A node it is still attached to.
    pub attached_to: Option<String>,
}

#[derive(Debug, PartialEq)]
pub enum Action {
    DeleteVolume { volume_id: String },
    DeleteObject,
    LetGo,
}

pub fn runner(kit: &Kit, driver: Driver) -> Runner<Deleter> {
    let (volumes, attachments) = (kit.objects::<PersistentVolume>(), kit.objects::<VolumeAttachment>());
    let controller = Deleter { driver, volumes: volumes.clone(), attachments: attachments.clone(), events: kit.recorder("stor.plasmacloud.io_provisioner") };
    Runner::new(controller).watch_own(&volumes).watch(&attachments, |change| {
        let gone = change.old.as_ref().filter(|_| change.new.is_none());
        let name = gone.and_then(|attachment| attachment.spec.source.persistent_volume_name.as_deref());
        name.map(|name| ObjectKey::new(&change.key.cluster, "", name)).into_iter().collect()
    })
}

/// Whether the volume can be reached from this node.
pub fn is_here(facts: &Facts, volume: &PersistentVolume) -> bool {
    let affinity = volume.spec.as_ref().and_then(|spec| spec.node_affinity.as_ref()).and_then(|affinity| affinity.required.as_ref());
    let labels = Some(facts.segments());
    affinity.is_none_or(|affinity| node_selector::terms(affinity).iter().any(|term| term.matches(&facts.node_name, &labels)))
}

#[async_trait]
impl Controller for Deleter {
    type World = World;
    type Action = Action;

    fn name(&self) -> &'static str {
        "csi-deleter"
    }

    fn observe(&self, key: &ObjectKey) -> Option<World> {
        let volume = self.volumes.get(key)?;
        let attachments = self.attachments.list(&key.cluster, None);
        let attached = attachments.iter().find(|attachment| attachment.spec.source.persistent_volume_name.as_deref() == Some(&*key.name));
        Some(World { facts: self.driver.facts.clone(), volume, attached_to: attached.map(|attachment| attachment.spec.node_name.clone()) })
    }

    fn reconcile(world: &World) -> Plan<Action> {
        let World { facts, volume, attached_to } = world;
        let metadata = &volume.metadata;
        let Some(spec) = &volume.spec else { return Plan::nothing() };
        let Some(source) = spec.csi.as_ref().filter(|source| source.driver == facts.name) else { return Plan::nothing() };
        let provisioned = metadata.annotations.as_ref().and_then(|all| all.get(PROVISIONED_BY)) == Some(&facts.name);
        let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending");
        let held = metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER);
        let going = metadata.deletion_timestamp.is_some();
        if !provisioned || !is_here(facts, volume) || attached_to.is_some() {
            return Plan::nothing();
        }
        let delete = spec.persistent_volume_reclaim_policy.as_deref() == Some("Delete");
        let mut plan = Plan::nothing();
        match (phase, going) {
            ("Bound", _) => {}
            (_, true) if held => {
                if delete {
                    plan.push(Action::DeleteVolume { volume_id: source.volume_handle.clone() });
                }
                plan.push(Action::LetGo);
            }
            ("Released" | "Failed", false) if delete => {
                plan.push(Action::DeleteVolume { volume_id: source.volume_handle.clone() });
                plan.push(Action::DeleteObject);
            }
            _ => {}
        }
        plan
    }

    async fn act(&self, key: &ObjectKey, action: Action) -> Result<(), Error> {
        let Some(volume) = self.volumes.get(key) else { return Ok(()) };
        match action {
            Action::DeleteVolume { volume_id } => {
                let deleted = self.driver.controller.clone().delete_volume(DeleteVolumeRequest { volume_id, ..Default::default() }).await;
                deleted.map(drop).map_err(|status| {
                    self.events.warning(&key.cluster, &*volume, "VolumeFailedDelete", message(&status));
                    refused(&status)
                })
            }
            Action::DeleteObject => self.volumes.delete(key, &Deletion { preconditions: Preconditions::uid_of(&volume.metadata), ..Default::default() }).await,
            Action::LetGo => {
                let mut finalizers = volume.metadata.finalizers.clone().unwrap_or_default();
                finalizers.retain(|finalizer| finalizer != FINALIZER);
                match self.volumes.patch(key, "", &json!({"metadata": {"finalizers": finalizers}}), &Preconditions::exactly(&volume.metadata)).await {
                    Err(error) if !error.is_not_found() => Err(error),
                    _ => Ok(()),
                }
            }
        }
    }
}
