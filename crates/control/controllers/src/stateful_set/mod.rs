//! StatefulSet: pods with an order and an identity that outlives them.
mod identity;
mod reconcile;
#[cfg(test)]
mod tests;

use crate::history::Step;
use crate::owners::{self, BY_CONTROLLER};
use crate::pods;
use controller_kit::{Change, Controller, Deletion, Error, Kit, ObjectKey, Objects, Plan, Preconditions, Recorder, Runner, async_trait, selector};
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use reconcile::{Action, World};
use serde_json::json;
use std::sync::Arc;

pub struct StatefulSets {
    kit: Kit,
    sets: Objects<StatefulSet>,
    pods: Objects<Pod>,
    claims: Objects<PersistentVolumeClaim>,
    revisions: Objects<ControllerRevision>,
    events: Recorder,
}

pub fn runner(kit: &Kit) -> Runner<StatefulSets> {
    let (sets, pods) = (kit.objects::<StatefulSet>(), kit.objects::<Pod>());
    let (claims, revisions) = (kit.objects::<PersistentVolumeClaim>(), kit.objects::<ControllerRevision>());
    pods.add_index(BY_CONTROLLER, owners::by_controller);
    revisions.add_index(BY_CONTROLLER, owners::by_controller);
    let controller = StatefulSets {
        kit: kit.clone(),
        sets: sets.clone(),
        pods: pods.clone(),
        claims: claims.clone(),
        revisions: revisions.clone(),
        events: kit.recorder("statefulset-controller"),
    };
    let (all, claiming) = (sets.clone(), sets.clone());
    let claim_gone = move |change: &Change<PersistentVolumeClaim>| {
        let owners = |claim: &Option<Arc<PersistentVolumeClaim>>| claim.as_ref().and_then(|claim| claim.metadata.owner_references.clone());
        if change.old.is_none() || (change.new.is_some() && owners(&change.old) == owners(&change.new)) {
            return Vec::new();
        }
        // A place may have waited until the claim of an earlier pod is gone.
        let sets = claiming.list(&change.key.cluster, Some(&change.key.namespace)).into_iter();
        let of = |set: &StatefulSet| change.key.name.contains(&format!("-{}-", identity::set_name(set)));
        sets.filter(|set| of(set)).map(|set| ObjectKey::of(&change.key.cluster, &set.metadata)).collect()
    };
    Runner::new(controller)
        .watch(&claims, claim_gone)
        .watch_own(&sets)
        .watch(&revisions, |change| owners::owner_keys(change, "StatefulSet", |_, _| Vec::new()))
        .watch(&pods, move |change| {
            owners::owner_keys(change, "StatefulSet", |key, metadata| {
                let selecting = all.list(&key.cluster, Some(&key.namespace)).into_iter();
                let selecting = selecting.filter(|set| selector(&set.spec.selector).is_ok_and(|of| !of.is_everything() && of.matches(&metadata.labels)));
                selecting.map(|set| ObjectKey::of(&key.cluster, &set.metadata)).collect()
            })
        })
}

impl StatefulSets {
    async fn create_claims(&self, key: &ObjectKey, set: &StatefulSet, pod: &str, claims: &[PersistentVolumeClaim]) -> Result<(), Error> {
        for claim in claims {
            let name = claim.metadata.name.as_deref().unwrap_or_default();
            match self.claims.create(&key.cluster, claim).await {
                Ok(_) => {
                    self.events.normal(&key.cluster, set, "SuccessfulCreate", format!("create Claim {name} Pod {pod} in StatefulSet {} success", key.name))
                }
                Err(error) if error.is_already_exists() => {}
                Err(error) => {
                    let message = format!("create Claim {name} for Pod {pod} in StatefulSet {} failed error: {error}", key.name);
                    self.events.warning(&key.cluster, set, "FailedCreate", message);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    async fn delete_pod(&self, key: &ObjectKey, set: &StatefulSet, pod: &Pod) -> Result<(), Error> {
        let name = pods::name(pod);
        let deletion = Deletion { preconditions: Preconditions::uid_of(&pod.metadata), ..Default::default() };
        match self.pods.delete(&ObjectKey::of(&key.cluster, &pod.metadata), &deletion).await {
            Ok(()) => {
                self.events.normal(&key.cluster, set, "SuccessfulDelete", format!("delete Pod {name} in StatefulSet {} successful", key.name));
                Ok(())
            }
            Err(error) if error.is_conflict() => Ok(()),
            Err(error) => {
                self.events.warning(&key.cluster, set, "FailedDelete", format!("delete Pod {name} in StatefulSet {} failed error: {error}", key.name));
                Err(error)
            }
        }
    }
}

#[async_trait]
impl Controller for StatefulSets {
    type World = World;
    type Action = Action;

    fn name(&self) -> &'static str {
        "statefulset-controller"
    }

    fn observe(&self, key: &ObjectKey) -> Option<World> {
        let set = self.sets.get(key)?;
        let uid = set.metadata.uid.as_deref()?;
        let pods = owners::candidates(&self.pods, key, uid);
        let revisions = owners::candidates(&self.revisions, key, uid);
        let has_claims = set.spec.volume_claim_templates.as_ref().is_some_and(|templates| !templates.is_empty());
        let claims = if has_claims { self.claims.list(&key.cluster, Some(&key.namespace)) } else { Vec::new() };
        let claims = claims.into_iter().filter_map(|claim| Some((claim.metadata.name.clone()?, claim))).collect();
        Some(World { set, pods, revisions, claims, now: self.kit.now() })
    }

    fn reconcile(world: &World) -> Plan<Action> {
        reconcile::reconcile(world)
    }

    async fn act(&self, key: &ObjectKey, action: Action) -> Result<(), Error> {
        let Some(set) = self.sets.get(key) else { return Ok(()) };
        let uid = set.metadata.uid.as_deref().unwrap_or_default();
        match action {
            Action::Adopt(pod) => owners::adopt(&self.sets, key, uid, &self.pods, &*pod).await,
            Action::Release(pod) => owners::release(key, uid, &self.pods, &*pod).await,
            Action::AdoptRevision(revision) => owners::adopt(&self.sets, key, uid, &self.revisions, &*revision).await,
            Action::Revise(Step::Renumber { revision, number }) => {
                let patch = json!({ "revision": number });
                let of = ObjectKey::of(&key.cluster, &revision.metadata);
                self.revisions.patch(&of, "", &patch, &Preconditions::exactly(&revision.metadata)).await?;
                Ok(())
            }
            Action::Revise(Step::Create(revision)) => match self.revisions.create(&key.cluster, &revision).await {
                Ok(_) => Ok(()),
                Err(error) if error.is_already_exists() => {
                    let found = self.revisions.fresh(&ObjectKey::of(&key.cluster, &revision.metadata)).await?;
                    if found.is_none_or(|found| found.data != revision.data) {
                        let mut status = set.status.clone().unwrap_or_default();
                        status.collision_count = Some(status.collision_count.unwrap_or_default() + 1);
                        self.sets.replace_status(&key.cluster, &StatefulSet { status: Some(status), ..(*set).clone() }).await?;
                    }
                    Err(error)
                }
                Err(error) => Err(error),
            },
            Action::CreatePod { pod, claims } => {
                let name = pods::name(&pod).to_owned();
                self.create_claims(key, &set, &name, &claims).await?;
                match self.pods.create(&key.cluster, &pod).await {
                    Ok(_) => {
                        self.events.normal(&key.cluster, &*set, "SuccessfulCreate", format!("create Pod {name} in StatefulSet {} successful", key.name));
                        Ok(())
                    }
                    Err(error) => {
                        if !error.is_already_exists() && !error.is_namespace_terminating() {
                            let message = format!("create Pod {name} in StatefulSet {} failed error: {error}", key.name);
                            self.events.warning(&key.cluster, &*set, "FailedCreate", message);
                        }
                        Err(error)
                    }
                }
            }
            Action::CreateClaims { pod, claims } => self.create_claims(key, &set, pods::name(&pod), &claims).await,
            Action::DeletePod(pod) => self.delete_pod(key, &set, &pod).await,
            Action::ReplaceEnded(pod) => {
                let (kind, place) = (pods::phase(&pod), format!("StatefulSet {}/{}", key.namespace, key.name));
                if kind == "Failed" {
                    self.events.warning(&key.cluster, &*set, "RecreatingFailedPod", format!("{place} is recreating failed Pod {}", pods::name(&pod)));
                } else {
                    self.events.normal(&key.cluster, &*set, "RecreatingTerminatedPod", format!("{place} is recreating terminated Pod {}", pods::name(&pod)));
                }
                self.delete_pod(key, &set, &pod).await
            }
            Action::OwnClaim { claim, owners } => {
                let patch = json!({"metadata": {"ownerReferences": owners}});
                self.claims.patch(&ObjectKey::of(&key.cluster, &claim.metadata), "", &patch, &Preconditions::exactly(&claim.metadata)).await?;
                Ok(())
            }
            Action::DeleteRevision(revision) => {
                let deletion = Deletion { preconditions: Preconditions::uid_of(&revision.metadata), ..Default::default() };
                self.revisions.delete(&ObjectKey::of(&key.cluster, &revision.metadata), &deletion).await
            }
            Action::SetStatus(status) => {
                self.sets.replace_status(&key.cluster, &StatefulSet { status: Some(status), ..(*set).clone() }).await?;
                Ok(())
            }
        }
    }
}
