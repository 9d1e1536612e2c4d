//! Attacher: attaches volumes to this node and detaches them, as VolumeAttachments ask.
use crate::driver::{Driver, Facts, Rpc, message, refused};
use controller_kit::{Controller, Error, Kit, ObjectKey, Objects, Plan, Preconditions, Runner, async_trait, whole_seconds};
use csi::v1::{ControllerPublishVolumeRequest, ControllerUnpublishVolumeRequest};
use k8s_openapi::api::core::v1::PersistentVolume;
use k8s_openapi::api::storage::v1::VolumeAttachment;
use serde_json::{Value, json};
use std::sync::Arc;

pub struct Attacher {
    kit: Kit,
    driver: Driver,
    attachments: Objects<VolumeAttachment>,
    volumes: Objects<PersistentVolume>,
}

pub struct World {
    pub facts: Arc<Facts>,
    pub attachment: Arc<VolumeAttachment>,
    pub volume: Option<Arc<PersistentVolume>>,
}

#[derive(Debug, PartialEq)]
pub enum Action {
    Hold,
    Publish(Box<ControllerPublishVolumeRequest>),
    /// The driver attaches nothing: it counts as done.
    Trivially,
    Unpublish {
        volume_id: String,
    },
    LetGo,
}

/// The finalizer that upstream's attacher of this driver would set.
fn finalizer(driver: &str) -> String {
    format!("external-attacher/{}", driver.replace(|c: char| !c.is_ascii_alphanumeric() && c != '-', "-"))
}

pub fn runner(kit: &Kit, driver: Driver) -> Runner<Attacher> {
    let (attachments, volumes) = (kit.objects::<VolumeAttachment>(), kit.objects::<PersistentVolume>());
    let controller = Attacher { kit: kit.clone(), driver, attachments: attachments.clone(), volumes: volumes.clone() };
    Runner::new(controller).watch_own(&attachments).needs(&volumes)
}

#[async_trait]
impl Controller for Attacher {
    type World = World;
    type Action = Action;

    fn name(&self) -> &'static str {
        "csi-attacher"
    }

    fn observe(&self, key: &ObjectKey) -> Option<World> {
        let attachment = self.attachments.get(key)?;
        // A volume that stands in the attachment itself is only for drivers that came from in-tree plugins.
        let volume = attachment.spec.source.persistent_volume_name.as_ref().and_then(|name| self.volumes.get(&ObjectKey::new(&key.cluster, "", name)));
        Some(World { facts: self.driver.facts.clone(), attachment, volume })
    }

    fn reconcile(world: &World) -> Plan<Action> {
        let World { facts, attachment, volume } = world;
        if attachment.spec.attacher != facts.name || attachment.spec.node_name != facts.node_name {
            return Plan::nothing();
        }
        let source = volume.as_ref().and_then(|volume| volume.spec.as_ref()?.csi.as_ref()).filter(|source| source.driver == facts.name);
        let held = attachment.metadata.finalizers.iter().flatten().any(|other| *other == finalizer(&facts.name));
        let attached = attachment.status.as_ref().is_some_and(|status| status.attached);
        let can = facts.can(Rpc::PublishUnpublishVolume);
        let mut plan = Plan::nothing();
        match (attachment.metadata.deletion_timestamp.is_some(), source) {
            (true, source) if held => {
                if let Some(source) = source.filter(|_| can) {
                    plan.push(Action::Unpublish { volume_id: source.volume_handle.clone() });
                }
                plan.push(Action::LetGo);
            }
            (false, Some(source)) if !attached && can => {
                let volume = volume.as_ref().and_then(|volume| volume.spec.clone()).unwrap_or_default();
                if !held {
                    plan.push(Action::Hold);
                }
                let capability = csi::access::capability(
                    volume.access_modes.as_deref().unwrap_or_default(),
                    volume.volume_mode.as_deref() == Some("Block"),
                    source.fs_type.as_deref().unwrap_or_default(),
                    volume.mount_options.as_deref().unwrap_or_default(),
                    facts.can(Rpc::SingleNodeMultiWriter),
                );
                plan.push(Action::Publish(Box::new(ControllerPublishVolumeRequest {
                    volume_id: source.volume_handle.clone(),
                    node_id: facts.node_id.clone(),
                    volume_capability: Some(capability),
                    readonly: source.read_only == Some(true) && facts.can(Rpc::PublishReadonly),
                    volume_context: source.volume_attributes.clone().unwrap_or_default(),
                    ..Default::default()
                })));
            }
            (false, Some(_)) if !attached => plan.push(Action::Trivially),
            _ => {}
        }
        plan
    }

    async fn act(&self, key: &ObjectKey, action: Action) -> Result<(), Error> {
        let Some(attachment) = self.attachments.get(key) else { return Ok(()) };
        let own = finalizer(&self.driver.facts.name);
        let mut finalizers = attachment.metadata.finalizers.clone().unwrap_or_default();
        finalizers.retain(|other| *other != own);
        match action {
            Action::Hold => {
                finalizers.push(own);
                let patch = json!({"metadata": {"finalizers": finalizers}});
                self.attachments.patch(key, "", &patch, &Preconditions::exactly(&attachment.metadata)).await?;
            }
            Action::Trivially => self.tell(key, &attachment, json!({"attached": true})).await?,
            Action::Publish(request) => match self.driver.controller.clone().controller_publish_volume(*request).await {
                Ok(answer) => {
                    let metadata = answer.into_inner().publish_context;
                    self.tell(key, &attachment, json!({"attached": true, "attachmentMetadata": metadata, "attachError": null})).await?;
                }
                Err(status) => {
                    self.tell(key, &attachment, json!({"attached": false, "attachError": self.error(&status)})).await?;
                    return Err(refused(&status));
                }
            },
            Action::Unpublish { volume_id } => {
                let request = ControllerUnpublishVolumeRequest { volume_id, node_id: self.driver.facts.node_id.clone(), ..Default::default() };
                if let Err(status) = self.driver.controller.clone().controller_unpublish_volume(request).await {
                    self.tell(key, &attachment, json!({"detachError": self.error(&status)})).await?;
                    return Err(refused(&status));
                }
            }
            Action::LetGo => {
                let patch = json!({"metadata": {"finalizers": finalizers}});
                match self.attachments.patch(key, "", &patch, &Preconditions::exactly(&attachment.metadata)).await {
                    Err(error) if !error.is_not_found() => return Err(error),
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

impl Attacher {
    async fn tell(&self, key: &ObjectKey, attachment: &VolumeAttachment, status: Value) -> Result<(), Error> {
        self.attachments.patch(key, "/status", &json!({ "status": status }), &Preconditions::uid_of(&attachment.metadata)).await.map(drop)
    }

    fn error(&self, status: &tonic::Status) -> Value {
        json!({"message": message(status), "time": whole_seconds(self.kit.now())})
    }
}
