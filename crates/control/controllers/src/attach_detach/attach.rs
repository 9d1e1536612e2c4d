//! Attach: asks for the attachment of the volumes of each pod that has a node.
use super::{Caches, node_of};
use crate::pods;
use controller_kit::{Controller, Error, Kit, ObjectKey, Objects, Plan, Recorder, Runner, async_trait};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::{CSIDriver, VolumeAttachment};
use serde_json::json;
use std::sync::Arc;

pub struct Attach {
    caches: Caches,
    pods: Objects<Pod>,
    attachments: Objects<VolumeAttachment>,
    events: Recorder,
}

pub struct World {
    pub pod: Arc<Pod>,
    /// Volumes the pod needs, each with its attachments.
    pub volumes: Vec<(Arc<PersistentVolume>, Vec<Arc<VolumeAttachment>>)>,
}

#[derive(Debug, PartialEq)]
pub enum Action {
    Attach {
        name: String,
        driver: String,
        node: String,
        volume: String,
    },
    /// It is on another node, and can't be on two.
    MultiAttach {
        volume: String,
    },
}

pub fn runner(kit: &Kit) -> Runner<Attach> {
    let (pods, attachments, claims) = (kit.objects::<Pod>(), kit.objects::<VolumeAttachment>(), kit.objects::<PersistentVolumeClaim>());
    let caches = Caches { claims: claims.clone(), volumes: kit.objects(), drivers: kit.objects::<CSIDriver>() };
    let controller = Attach { caches: caches.clone(), pods: pods.clone(), attachments: attachments.clone(), events: kit.recorder("attachdetach-controller") };
    let of_claims = pods.clone();
    Runner::new(controller)
        .watch(&pods, |change| {
            // Only pods with a node and a claim have anything to attach.
            let needs = change.new.as_ref().is_some_and(|pod| node_of(pod).is_some() && !crate::volume_protection::claims_of(pod).is_empty());
            if needs { vec![change.key.clone()] } else { Vec::new() }
        })
        .watch(&claims, move |change| {
            let users = of_claims.list(&change.key.cluster, Some(&change.key.namespace));
            let uses = |pod: &&Arc<Pod>| node_of(pod).is_some() && crate::volume_protection::claims_of(pod).iter().any(|name| **name == *change.key.name);
            users.iter().filter(uses).map(|pod| ObjectKey::of(&change.key.cluster, &pod.metadata)).collect()
        })
        .needs(&caches.volumes)
        .needs(&caches.drivers)
        .needs(&attachments)
}

#[async_trait]
impl Controller for Attach {
    type World = World;
    type Action = Action;

    fn name(&self) -> &'static str {
        "attachdetach-controller"
    }

    fn observe(&self, key: &ObjectKey) -> Option<World> {
        let pod = self.pods.get(key)?;
        let all = self.attachments.list(&key.cluster, None);
        let with = |volume: Arc<PersistentVolume>| {
            let own = all.iter().filter(|attachment| attachment.spec.source.persistent_volume_name == volume.metadata.name).cloned().collect();
            (volume, own)
        };
        let volumes = self.caches.volumes_of(key, &pod).into_iter().map(with).collect();
        Some(World { pod, volumes })
    }

    fn reconcile(world: &World) -> Plan<Action> {
        let mut plan = Plan::nothing();
        let Some(node) = node_of(&world.pod).filter(|_| !pods::is_finished(&world.pod) && world.pod.metadata.deletion_timestamp.is_none()) else {
            return plan;
        };
        for (volume, attachments) in &world.volumes {
            let name = volume.metadata.name.clone().unwrap_or_default();
            let spec = volume.spec.clone().unwrap_or_default();
            let Some(source) = spec.csi else { continue };
            if attachments.iter().any(|attachment| attachment.spec.node_name == node && attachment.metadata.deletion_timestamp.is_none()) {
                continue;
            }
            let shared = spec.access_modes.iter().flatten().any(|mode| matches!(mode.as_str(), "ReadWriteMany" | "ReadOnlyMany"));
            if !shared && attachments.iter().any(|attachment| attachment.spec.node_name != node) {
                plan.push(Action::MultiAttach { volume: name });
                plan.look_again(std::time::Duration::from_secs(5));
            } else if attachments.iter().any(|attachment| attachment.spec.node_name == node) {
                // The old one is still going.
                plan.look_again(std::time::Duration::from_millis(200));
            } else {
                plan.push(Action::Attach {
                    name: csi::names::attachment(&source.volume_handle, &source.driver, node),
                    driver: source.driver,
                    node: node.to_owned(),
                    volume: name,
                });
            }
        }
        plan
    }

    async fn act(&self, key: &ObjectKey, action: Action) -> Result<(), Error> {
        match action {
            Action::Attach { name, driver, node, volume } => {
                let attachment: VolumeAttachment = serde_json::from_value(json!({
                    "apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttachment", "metadata": {"name": name},
                    "spec": {"attacher": driver, "nodeName": node, "source": {"persistentVolumeName": volume}},
                }))?;
                match self.attachments.create(&key.cluster, &attachment).await {
                    Err(error) if !error.is_already_exists() => return Err(error),
                    _ => {}
                }
            }
            Action::MultiAttach { volume } => {
                if let Some(pod) = self.pods.get(key) {
                    let message =
                        format!("Multi-Attach error for volume {volume:?} Volume is already exclusively attached to one node and can't be attached to another");
                    self.events.warning(&key.cluster, &*pod, "FailedAttachVolume", message);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use controller_kit::converges;
    use serde_json::Value;

    fn world(mode: &str, attached_to: &[&str], with: Value) -> World {
        let mut pod = json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n1", "containers": []}});
        pod.as_object_mut().unwrap().extend(with.as_object().unwrap().clone());
        let volume = json!({"metadata": {"name": "v"}, "spec": {"accessModes": [mode], "csi": {"driver": "d.example", "volumeHandle": "h"}}});
        let attachments = attached_to.iter().map(|node| Arc::new(attachment(node, "x"))).collect();
        World { pod: Arc::new(serde_json::from_value(pod).unwrap()), volumes: vec![(Arc::new(serde_json::from_value(volume).unwrap()), attachments)] }
    }

    fn attachment(node: &str, name: &str) -> VolumeAttachment {
        let value = json!({"metadata": {"name": name}, "spec": {"attacher": "d.example", "nodeName": node, "source": {"persistentVolumeName": "v"}}});
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_volume_is_attached_once_to_the_pods_node() {
        let end = converges(world("ReadWriteOnce", &[], json!({})), 1, Attach::reconcile, |world, action| {
            let Action::Attach { name, node, .. } = action else { panic!("{action:?}") };
            assert!(name.starts_with("csi-") && name.len() == 68, "{name}");
            world.volumes[0].1.push(Arc::new(attachment(&node, &name)));
        });
        assert_eq!(end.volumes[0].1[0].spec.node_name, "n1");
    }

    #[test]
    fn only_what_may_be_shared_is_attached_twice() {
        let elsewhere = |mode: &str| Attach::reconcile(&world(mode, &["n2"], json!({}))).actions;
        assert_eq!(elsewhere("ReadWriteOnce"), [Action::MultiAttach { volume: "v".into() }]);
        assert_eq!(elsewhere("ReadWriteOncePod"), [Action::MultiAttach { volume: "v".into() }]);
        for mode in ["ReadWriteMany", "ReadOnlyMany"] {
            assert!(matches!(&elsewhere(mode)[..], [Action::Attach { .. }]), "{mode}");
        }
    }

    #[test]
    fn pods_that_end_go_or_have_no_node_need_nothing() {
        for with in [
            json!({"status": {"phase": "Succeeded"}}),
            json!({"metadata": {"name": "p", "deletionTimestamp": "2026-01-01T00:00:00Z"}}),
            json!({"spec": {"containers": []}}),
        ] {
            assert_eq!(Attach::reconcile(&world("ReadWriteOnce", &[], with)), Plan::nothing());
        }
        // What still goes is waited for.
        let mut again = world("ReadWriteOnce", &["n1"], json!({}));
        Arc::make_mut(&mut again.volumes[0].1[0]).metadata.deletion_timestamp = Some(controller_kit::whole_seconds(jiff::Timestamp::UNIX_EPOCH));
        let plan = Attach::reconcile(&again);
        assert!(plan.actions.is_empty() && plan.again_after.is_some());
    }
}
