//! Volume protection: a claim in use by a pod, a volume bound to a claim, and a class of attributes that either names, stay until they no longer are.
pub mod attributes_class;

use crate::pods;
use controller_kit::{Controller, Error, Kind, Kit, ObjectKey, Objects, Plan, Preconditions, Runner, async_trait};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;
use std::sync::Arc;

const CLAIM_FINALIZER: &str = "kubernetes.io/pvc-protection";
const VOLUME_FINALIZER: &str = "kubernetes.io/pv-protection";

#[derive(Debug, PartialEq)]
pub enum Action {
    Protect,
    LetGo,
}

/// What is protected, and whether it is in use.
pub struct World {
    pub metadata: ObjectMeta,
    pub in_use: bool,
    pub finalizer: &'static str,
}

fn decide(world: &World) -> Plan<Action> {
    let has = world.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == world.finalizer);
    match (world.metadata.deletion_timestamp.is_some(), has, world.in_use) {
        (false, false, _) => vec![Action::Protect].into(),
        (true, true, false) => vec![Action::LetGo].into(),
        _ => Plan::nothing(),
    }
}

async fn write<K: Kind>(objects: &Objects<K>, key: &ObjectKey, finalizer: &str, action: Action) -> Result<(), Error> {
    let Some(object) = objects.get(key) else { return Ok(()) };
    let metadata = object.metadata();
    let mut finalizers = metadata.finalizers.clone().unwrap_or_default();
    finalizers.retain(|other| other != finalizer);
    if action == Action::Protect {
        finalizers.push(finalizer.to_owned());
    }
    match objects.patch(key, "", &json!({"metadata": {"finalizers": finalizers}}), &Preconditions::exactly(metadata)).await {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}

pub struct ClaimProtection {
    claims: Objects<PersistentVolumeClaim>,
    pods: Objects<Pod>,
}

/// Names of the claims a pod uses.
pub fn claims_of(pod: &Pod) -> Vec<String> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let names = volumes.filter_map(|volume| match (&volume.persistent_volume_claim, &volume.ephemeral) {
        (Some(source), _) => Some(source.claim_name.clone()),
        (_, Some(_)) => Some(format!("{}-{}", pods::name(pod), volume.name)),
        _ => None,
    });
    names.collect()
}

pub fn claim_runner(kit: &Kit) -> Runner<ClaimProtection> {
    let (claims, pods) = (kit.objects::<PersistentVolumeClaim>(), kit.objects::<Pod>());
    let controller = ClaimProtection { claims: claims.clone(), pods: pods.clone() };
    Runner::new(controller).watch_own(&claims).watch(&pods, |change| {
        // A claim is freed when a pod ends or goes.
        let Some(pod) = change.new.as_ref().filter(|pod| pods::is_finished(pod)).or(change.old.as_ref().filter(|_| change.new.is_none())) else {
            return Vec::new();
        };
        claims_of(pod).iter().map(|name| ObjectKey::new(&change.key.cluster, &change.key.namespace, name)).collect()
    })
}

#[async_trait]
impl Controller for ClaimProtection {
    type World = World;
    type Action = Action;

    fn name(&self) -> &'static str {
        "persistentvolumeclaim-protection-controller"
    }

    fn observe(&self, key: &ObjectKey) -> Option<World> {
        let claim = self.claims.get(key)?;
        let uses = |pod: &Arc<Pod>| !pods::is_finished(pod) && claims_of(pod).iter().any(|name| **name == *key.name);
        let in_use = claim.metadata.deletion_timestamp.is_some() && self.pods.list(&key.cluster, Some(&key.namespace)).iter().any(uses);
        Some(World { metadata: claim.metadata.clone(), in_use, finalizer: CLAIM_FINALIZER })
    }

    fn reconcile(world: &World) -> Plan<Action> {
        decide(world)
    }

    async fn act(&self, key: &ObjectKey, action: Action) -> Result<(), Error> {
        write(&self.claims, key, CLAIM_FINALIZER, action).await
    }
}

pub struct VolumeProtection {
    volumes: Objects<PersistentVolume>,
}

pub fn volume_runner(kit: &Kit) -> Runner<VolumeProtection> {
    let volumes = kit.objects::<PersistentVolume>();
    Runner::new(VolumeProtection { volumes: volumes.clone() }).watch_own(&volumes)
}

#[async_trait]
impl Controller for VolumeProtection {
    type World = World;
    type Action = Action;

    fn name(&self) -> &'static str {
        "persistentvolume-protection-controller"
    }

    fn observe(&self, key: &ObjectKey) -> Option<World> {
        let volume = self.volumes.get(key)?;
        let in_use = volume.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound");
        Some(World { metadata: volume.metadata.clone(), in_use, finalizer: VOLUME_FINALIZER })
    }

    fn reconcile(world: &World) -> Plan<Action> {
        decide(world)
    }

    async fn act(&self, key: &ObjectKey, action: Action) -> Result<(), Error> {
        write(&self.volumes, key, VOLUME_FINALIZER, action).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use controller_kit::converges;

    #[test]
    fn what_is_in_use_is_held_and_what_is_not_is_let_go() {
        let world = |going: bool, has: bool, in_use| World {
            metadata: ObjectMeta {
                deletion_timestamp: going.then(|| controller_kit::whole_seconds(jiff::Timestamp::UNIX_EPOCH)),
                finalizers: has.then(|| vec![CLAIM_FINALIZER.into()]),
                ..Default::default()
            },
            in_use,
            finalizer: CLAIM_FINALIZER,
        };
        assert_eq!(decide(&world(false, false, false)).actions, [Action::Protect]);
        assert_eq!(decide(&world(false, true, true)), Plan::nothing());
        assert_eq!(decide(&world(true, true, true)), Plan::nothing());
        assert_eq!(decide(&world(true, true, false)).actions, [Action::LetGo]);
        assert_eq!(decide(&world(true, false, false)), Plan::nothing());
    }

    #[test]
    fn it_is_held_once_and_let_go_once() {
        let apply = |world: &mut World, action| match action {
            Action::Protect => world.metadata.finalizers.get_or_insert_default().push(world.finalizer.into()),
            Action::LetGo => world.metadata.finalizers = None,
        };
        for finalizer in [CLAIM_FINALIZER, VOLUME_FINALIZER] {
            let mut held = converges(World { metadata: ObjectMeta::default(), in_use: true, finalizer }, 1, decide, apply);
            held.metadata.deletion_timestamp = Some(controller_kit::whole_seconds(jiff::Timestamp::UNIX_EPOCH));
            let mut used = converges(held, 0, decide, apply);
            assert_eq!(used.metadata.finalizers, Some(vec![finalizer.to_owned()]));
            used.in_use = false;
            assert_eq!(converges(used, 1, decide, apply).metadata.finalizers, None);
        }
    }
}
