//! Detach: takes away the attachments that no pod on their node needs, once the node has let go.
use super::{Caches, node_of};
use crate::pods;
use controller_kit::{Controller, Deletion, Error, Kit, ObjectKey, Objects, Plan, Preconditions, Runner, async_trait};
use k8s_openapi::api::core::v1::{Node, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::{CSIDriver, VolumeAttachment};
use std::sync::Arc;

pub struct Detach {
    caches: Caches,
    pods: Objects<Pod>,
    nodes: Objects<Node>,
    attachments: Objects<VolumeAttachment>,
}

pub struct World {
    pub attachment: Arc<VolumeAttachment>,
    /// Pods on its node that use the volume.
    pub users: Vec<Arc<Pod>>,
    /// Whether the node says that it has the volume mounted; never of a node that is gone.
    pub mounted: bool,
}

#[derive(Debug, PartialEq)]
pub enum Action {
    Detach,
}

pub fn runner(kit: &Kit) -> Runner<Detach> {
    let (pods, attachments, claims, nodes) =
        (kit.objects::<Pod>(), kit.objects::<VolumeAttachment>(), kit.objects::<PersistentVolumeClaim>(), kit.objects::<Node>());
    let caches = Caches { claims: claims.clone(), volumes: kit.objects(), drivers: kit.objects::<CSIDriver>() };
    let controller = Detach { caches: caches.clone(), pods: pods.clone(), nodes: nodes.clone(), attachments: attachments.clone() };
    let (of_pods, of_nodes) = (attachments.clone(), attachments.clone());
    Runner::new(controller)
        .watch_own(&attachments)
        .watch(&pods, move |change| {
            // Its going or its end frees what its node has.
            let freed = change.new.as_ref().filter(|pod| pods::is_finished(pod)).or(change.old.as_ref().filter(|_| change.new.is_none()));
            let Some(node) = freed.filter(|pod| !crate::volume_protection::claims_of(pod).is_empty()).and_then(|pod| node_of(pod)) else {
                return Vec::new();
            };
            let there = of_pods.list(&change.key.cluster, None).into_iter().filter(|attachment| attachment.spec.node_name == node);
            there.map(|attachment| ObjectKey::of(&change.key.cluster, &attachment.metadata)).collect()
        })
        .watch(&nodes, move |change| {
            let in_use = |node: &Option<Arc<Node>>| node.as_ref().and_then(|node| node.status.as_ref()?.volumes_in_use.clone());
            if change.new.is_some() && in_use(&change.old) == in_use(&change.new) {
                return Vec::new();
            }
            // The node is the host's; attachments to it are in every cluster.
            let all = of_nodes.all().into_iter().filter(|(_, attachment)| attachment.spec.node_name == *change.key.name);
            all.map(|(key, _)| key).collect()
        })
        .needs(&claims)
        .needs(&caches.volumes)
        .needs(&caches.drivers)
}

#[async_trait]
impl Controller for Detach {
    type World = World;
    type Action = Action;

    fn name(&self) -> &'static str {
        "attachdetach-controller-detach"
    }

    fn observe(&self, key: &ObjectKey) -> Option<World> {
        let attachment = self.attachments.get(key)?;
        let name = attachment.spec.source.persistent_volume_name.as_ref()?;
        let volume = self.caches.volumes.get(&ObjectKey::new(&key.cluster, "", name));
        let uses = |pod: &Arc<Pod>| {
            let pod_key = ObjectKey::of(&key.cluster, &pod.metadata);
            node_of(pod) == Some(&attachment.spec.node_name)
                && !pods::is_finished(pod)
                && self.caches.volumes_of(&pod_key, pod).iter().any(|volume| volume.metadata.name.as_ref() == Some(name))
        };
        let users = self.pods.list(&key.cluster, None).into_iter().filter(uses).collect();
        let unique = volume.as_ref().and_then(|volume| volume.spec.as_ref()?.csi.as_ref()).map(|of| csi::names::unique(&of.driver, &of.volume_handle));
        let node = self.nodes.get(&ObjectKey::new(&api_meta::ClusterName::root(), "", &attachment.spec.node_name));
        let in_use = node.and_then(|node| node.status.as_ref()?.volumes_in_use.clone()).unwrap_or_default();
        Some(World { users, mounted: unique.is_some_and(|unique| in_use.contains(&unique)), attachment })
    }

    fn reconcile(world: &World) -> Plan<Action> {
        let World { attachment, users, mounted, .. } = world;
        if attachment.metadata.deletion_timestamp.is_some() || !users.is_empty() || *mounted {
            return Plan::nothing();
        }
        vec![Action::Detach].into()
    }

    async fn act(&self, key: &ObjectKey, Action::Detach: Action) -> Result<(), Error> {
        let Some(attachment) = self.attachments.get(key) else { return Ok(()) };
        self.attachments.delete(key, &Deletion { preconditions: Preconditions::uid_of(&attachment.metadata), ..Default::default() }).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use controller_kit::converges;

    fn world(users: usize, mounted: bool) -> World {
        World { attachment: Arc::default(), users: vec![Arc::default(); users], mounted }
    }

    #[test]
    fn a_volume_stays_while_a_pod_uses_it_or_its_node_has_it_mounted() {
        assert_eq!(Detach::reconcile(&world(1, false)), Plan::nothing());
        assert_eq!(Detach::reconcile(&world(0, true)), Plan::nothing());
        assert_eq!(Detach::reconcile(&world(0, false)).actions, [Action::Detach]);
    }

    #[test]
    fn it_is_detached_once() {
        converges(world(0, false), 1, Detach::reconcile, |world, Action::Detach| {
            Arc::make_mut(&mut world.attachment).metadata.deletion_timestamp = Some(controller_kit::whole_seconds(jiff::Timestamp::UNIX_EPOCH));
        });
    }
}
