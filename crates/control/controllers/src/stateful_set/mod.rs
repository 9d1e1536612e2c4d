//! StatefulSet: keeps pods with stable names, hosts and volumes, in order.
mod claims;
mod identity;
mod reconcile;
mod status;
#[cfg(test)]
mod tests;

pub use reconcile::{Action, World};

use crate::owners::{self, BY_CONTROLLER};
use crate::{controller_revisions, pods};
use api_meta::ClusterName;
use controller_kit::{Controller, Deletion, Error, Kit, ObjectKey, Objects, Plan, Preconditions, Recorder, Runner, async_trait, selector};
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet, StatefulSetStatus};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;

pub struct StatefulSets {
    kit: Kit,
    sets: Objects<StatefulSet>,
    pods: Objects<Pod>,
    revisions: Objects<ControllerRevision>,
    claims: Objects<PersistentVolumeClaim>,
    events: Recorder,
}

/// Wires the controller: sets, their pods and the end of their claims wake it.
pub fn runner(kit: &Kit) -> Runner<StatefulSets> {
    let (sets, pods) = (kit.objects::<StatefulSet>(), kit.objects::<Pod>());
    let (revisions, claims) = (kit.objects::<ControllerRevision>(), kit.objects::<PersistentVolumeClaim>());
    pods.add_index(BY_CONTROLLER, owners::by_controller);
    revisions.add_index(BY_CONTROLLER, owners::by_controller);
    let controller = StatefulSets {
        kit: kit.clone(),
        sets: sets.clone(),
        pods: pods.clone(),
        revisions: revisions.clone(),
        claims: claims.clone(),
        events: kit.recorder("statefulset-controller"),
    };
    let (of_pods, of_claims) = (sets.clone(), sets.clone());
    Runner::new(controller)
        .watch_own(&sets)
        .watch(&pods, move |change| owners::owner_keys(change, "StatefulSet", |key, metadata| selecting(&of_pods, &key.cluster, &key.namespace, metadata)))
        .watch(&claims, move |change| {
            // A set waits only for claims of earlier pods to go.
            if change.new.is_some() {
                return Vec::new();
            }
            let all = of_claims.list(&change.key.cluster, Some(&change.key.namespace));
            let waiting = all.iter().filter(|set| claims::could_be_of(set, &change.key.name));
            waiting.map(|set| ObjectKey::of(&change.key.cluster, &set.metadata)).collect()
        })
        .needs(&revisions)
}

fn selecting(sets: &Objects<StatefulSet>, cluster: &ClusterName, namespace: &str, metadata: &ObjectMeta) -> Vec<ObjectKey> {
    let takes = |set: &StatefulSet| selector(&set.spec.as_ref()?.selector).ok().filter(|of| !of.is_everything() && of.matches(&metadata.labels)).map(|_| ());
    sets.list(cluster, Some(namespace)).iter().filter(|set| takes(set).is_some()).map(|set| ObjectKey::of(cluster, &set.metadata)).collect()
}

impl StatefulSets {
    async fn set_status(&self, key: &ObjectKey, status: StatefulSetStatus) -> Result<(), Error> {
        if let Some(set) = self.sets.get(key) {
            self.sets.replace_status(&key.cluster, &StatefulSet { status: Some(status), ..(*set).clone() }).await?;
        }
        Ok(())
    }

    /// Tells how a write of a pod or claim went, in upstream's words.
    fn tell(&self, key: &ObjectKey, set: &StatefulSet, verb: &str, what: &str, result: &Result<(), Error>) {
        let (mut reason, lower) = (verb.to_owned(), verb.to_lowercase());
        match result {
            Ok(()) => {
                reason.insert_str(0, "Successful");
                let good = if what.starts_with("Claim") { "success" } else { "successful" };
                self.events.normal(&key.cluster, set, &reason, format!("{lower} {what} in StatefulSet {} {good}", key.name));
            }
            Err(error) if error.is_namespace_terminating() => {}
            Err(error) => {
                reason.insert_str(0, "Failed");
                self.events.warning(&key.cluster, set, &reason, format!("{lower} {what} in StatefulSet {} failed error: {error}", key.name));
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
        let claims = if claims::has_templates(&set) { self.claims.list(&key.cluster, Some(&key.namespace)) } else { Vec::new() };
        let claims = claims.into_iter().filter(|claim| claims::could_be_of(&set, claim.metadata.name.as_deref().unwrap_or_default())).collect();
        Some(World { set: set.clone(), pods, revisions, claims, now: self.kit.now() })
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
            Action::Revise(step) => {
                if controller_revisions::take(&self.revisions, key, &*set, &step).await? {
                    return Ok(());
                }
                let mut status = set.status.clone().unwrap_or_default();
                status.collision_count = Some(status.collision_count.unwrap_or_default() + 1);
                self.set_status(key, status).await?;
                Err(Error::NotYet("another template has the same hash".into()))
            }
            Action::DeleteRevision(revision) => {
                let deletion = Deletion { preconditions: Preconditions::uid_of(&revision.metadata), ..Default::default() };
                self.revisions.delete(&ObjectKey::of(&key.cluster, &revision.metadata), &deletion).await
            }
            Action::CreateClaim { claim, pod } => {
                let result = self.claims.create(&key.cluster, &claim).await.map(|_| ());
                let what = format!("Claim {} Pod {pod}", claim.metadata.name.as_deref().unwrap_or_default());
                self.tell(key, &set, "Create", &what, &result);
                result
            }
            Action::OwnClaim(claim) => {
                let references = claim.metadata.owner_references.clone().unwrap_or_default();
                let patch = json!({"metadata": {"ownerReferences": references}});
                let result = self.claims.patch(&ObjectKey::of(&key.cluster, &claim.metadata), "", &patch, &Preconditions::exactly(&claim.metadata)).await;
                result.map(|_| ())
            }
            Action::CreatePod(pod) => match self.pods.create(&key.cluster, &pod).await {
                // The pod of this name that went may be still there, or there again: look anew.
                Err(error) if error.is_already_exists() => Err(Error::NotYet(format!("pod {:?} exists already", pods::name(&pod)))),
                result => {
                    let result = result.map(|_| ());
                    self.tell(key, &set, "Create", &format!("Pod {}", pods::name(&pod)), &result);
                    result
                }
            },
            Action::IdentifyPod(pod) => {
                let patch = json!({"metadata": {"labels": pod.metadata.labels}});
                let result = self.pods.patch(&ObjectKey::of(&key.cluster, &pod.metadata), "", &patch, &Preconditions::exactly(&pod.metadata)).await;
                let result = result.map(|_| ());
                self.tell(key, &set, "Update", &format!("Pod {}", pods::name(&pod)), &result);
                result
            }
            Action::DeletePod(pod) => {
                match pods::phase(&pod) {
                    "Failed" => self.events.warning(
                        &key.cluster,
                        &*set,
                        "RecreatingFailedPod",
                        format!("StatefulSet {}/{} is recreating failed Pod {}", key.namespace, key.name, pods::name(&pod)),
                    ),
                    "Succeeded" => self.events.normal(
                        &key.cluster,
                        &*set,
                        "RecreatingTerminatedPod",
                        format!("StatefulSet {}/{} is recreating terminated Pod {}", key.namespace, key.name, pods::name(&pod)),
                    ),
                    _ => {}
                }
                let deletion = Deletion { preconditions: Preconditions::uid_of(&pod.metadata), ..Default::default() };
                let result = match self.pods.delete(&ObjectKey::of(&key.cluster, &pod.metadata), &deletion).await {
                    // Another pod has its name by now.
                    Err(error) if error.is_conflict() => return Ok(()),
                    result => result,
                };
                self.tell(key, &set, "Delete", &format!("Pod {}", pods::name(&pod)), &result);
                result
            }
            Action::SetStatus(status) => self.set_status(key, *status).await,
        }
    }
}
