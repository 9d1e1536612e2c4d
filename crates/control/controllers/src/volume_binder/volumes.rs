//! Volumes: each volume's phase: available, bound to its claim, or released by it.
use controller_kit::{Controller, Error, Kit, ObjectKey, Objects, Plan, Preconditions, Runner, async_trait, whole_seconds};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use serde_json::json;
use std::sync::Arc;

pub struct Volumes {
    kit: Kit,
    volumes: Objects<PersistentVolume>,
    claims: Objects<PersistentVolumeClaim>,
}

pub struct World {
    pub volume: Arc<PersistentVolume>,
    /// The claim its claimRef names, of whatever uid.
    pub claim: Option<Arc<PersistentVolumeClaim>>,
}

#[derive(Debug, PartialEq)]
pub enum Action {
    SetPhase(&'static str),
}

pub fn runner(kit: &Kit) -> Runner<Volumes> {
    let (volumes, claims) = (kit.objects::<PersistentVolume>(), kit.objects::<PersistentVolumeClaim>());
    Runner::new(Volumes { kit: kit.clone(), volumes: volumes.clone(), claims: claims.clone() }).watch_own(&volumes).watch(&claims, |change| {
        let names = [&change.old, &change.new].into_iter().flatten().filter_map(|claim| claim.spec.as_ref()?.volume_name.clone());
        let mut keys: Vec<ObjectKey> = names.filter(|name| !name.is_empty()).map(|name| ObjectKey::new(&change.key.cluster, "", &name)).collect();
        keys.dedup();
        keys
    })
}

#[async_trait]
impl Controller for Volumes {
    type World = World;
    type Action = Action;

    fn name(&self) -> &'static str {
        "persistentvolume-controller"
    }

    fn observe(&self, key: &ObjectKey) -> Option<World> {
        let volume = self.volumes.get(key)?;
        let reference = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
        let claim = reference
            .and_then(|of| self.claims.get(&ObjectKey::new(&key.cluster, of.namespace.as_deref().unwrap_or_default(), of.name.as_deref().unwrap_or_default())));
        Some(World { volume, claim })
    }

    fn reconcile(world: &World) -> Plan<Action> {
        let World { volume, claim, .. } = world;
        let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending");
        let uid = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()).and_then(|of| of.uid.clone()).filter(|uid| !uid.is_empty());
        let right = match uid {
            None => "Available",
            Some(uid) => match claim.as_ref().filter(|claim| claim.metadata.uid.as_ref() == Some(&uid)) {
                Some(claim) if claim.spec.as_ref().and_then(|spec| spec.volume_name.as_ref()) == volume.metadata.name.as_ref() => "Bound",
                // Reserved, and the claim is about to be bound.
                Some(_) => return Plan::nothing(),
                None => "Released",
            },
        };
        // A failed reclaim is told by whoever failed, and stays told.
        if phase == right || (right == "Released" && phase == "Failed") { Plan::nothing() } else { vec![Action::SetPhase(right)].into() }
    }

    async fn act(&self, key: &ObjectKey, Action::SetPhase(phase): Action) -> Result<(), Error> {
        let Some(volume) = self.volumes.get(key) else { return Ok(()) };
        let patch = json!({"status": {"phase": phase, "lastPhaseTransitionTime": whole_seconds(self.kit.now())}});
        self.volumes.patch(key, "/status", &patch, &Preconditions::uid_of(&volume.metadata)).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use controller_kit::converges;
    use serde_json::Value;

    #[test]
    fn the_phase_follows_the_claim() {
        let phase = |reference: Value, claim: Option<Value>| {
            let volume = json!({"metadata": {"name": "v"}, "spec": {"claimRef": reference}});
            let world =
                World { volume: Arc::new(serde_json::from_value(volume).unwrap()), claim: claim.map(|claim| Arc::new(serde_json::from_value(claim).unwrap())) };
            Volumes::reconcile(&world).actions.into_iter().map(|Action::SetPhase(phase)| phase).next()
        };
        let of = json!({"name": "c", "namespace": "n", "uid": "u"});
        assert_eq!(phase(json!(null), None), Some("Available"));
        assert_eq!(phase(json!({"name": "c", "namespace": "n"}), None), Some("Available"));
        assert_eq!(phase(of.clone(), Some(json!({"metadata": {"uid": "u"}, "spec": {"volumeName": "v"}}))), Some("Bound"));
        assert_eq!(phase(of.clone(), Some(json!({"metadata": {"uid": "u"}, "spec": {}}))), None);
        assert_eq!(phase(of.clone(), Some(json!({"metadata": {"uid": "other"}, "spec": {}}))), Some("Released"));
        assert_eq!(phase(of, None), Some("Released"));
    }

    #[test]
    fn a_phase_is_written_once() {
        for reference in [json!(null), json!({"name": "c", "namespace": "n", "uid": "u"})] {
            let volume = json!({"metadata": {"name": "v"}, "spec": {"claimRef": reference}});
            let world = World { volume: Arc::new(serde_json::from_value(volume).unwrap()), claim: None };
            converges(world, 1, Volumes::reconcile, |world, Action::SetPhase(phase)| {
                Arc::make_mut(&mut world.volume).status.get_or_insert_default().phase = Some(phase.into());
            });
        }
    }
}
