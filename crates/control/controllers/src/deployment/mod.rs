//! Deployment: rolls a pod template out through ReplicaSets.
mod limits;
mod reconcile;
mod revision;
mod rollout;
mod status;
#[cfg(test)]
mod tests;

pub use limits::scaled;
pub use reconcile::{Action, World};

use crate::owners::{self, BY_CONTROLLER};
use crate::pods;
use controller_kit::{Controller, Deletion, Error, Kit, ObjectKey, Objects, Plan, Preconditions, Recorder, Runner, async_trait, selector};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

pub struct Deployments {
    kit: Kit,
    deployments: Objects<Deployment>,
    sets: Objects<ReplicaSet>,
    pods: Objects<Pod>,
    events: Recorder,
}

pub fn runner(kit: &Kit) -> Runner<Deployments> {
    let (deployments, sets, pods) = (kit.objects::<Deployment>(), kit.objects::<ReplicaSet>(), kit.objects::<Pod>());
    pods.add_index(BY_CONTROLLER, owners::by_controller);
    sets.add_index(BY_CONTROLLER, owners::by_controller);
    let controller = Deployments {
        kit: kit.clone(),
        deployments: deployments.clone(),
        sets: sets.clone(),
        pods: pods.clone(),
        events: kit.recorder("deployment-controller"),
    };
    let (all, sets_of_pods) = (deployments.clone(), sets.clone());
    let recreated = deployments.clone();
    Runner::new(controller)
        .watch_own(&deployments)
        .watch(&sets, move |change| {
            owners::owner_keys(change, "Deployment", |key, metadata| {
                let selecting = all.list(&key.cluster, Some(&key.namespace)).into_iter().filter(|deployment| {
                    selector(&deployment.spec.selector).is_ok_and(|matcher| !matcher.is_everything() && matcher.matches(&metadata.labels))
                });
                selecting.map(|deployment| ObjectKey::of(&key.cluster, &deployment.metadata)).collect()
            })
        })
        .watch(&pods, move |change| {
            // Only a Recreate deployment waits for pods themselves, and only for their end.
            if change.new.as_ref().is_some_and(|pod| !pods::is_finished(pod)) {
                return Vec::new();
            }
            let Some(pod) = change.new.as_ref().or(change.old.as_ref()) else { return Vec::new() };
            let Some(set) = owners::controller_of(&pod.metadata).filter(|owner| owner.kind == "ReplicaSet") else { return Vec::new() };
            let set = sets_of_pods.get(&ObjectKey::new(&change.key.cluster, &change.key.namespace, &set.name));
            let owner = set.as_ref().and_then(|set| owners::controller_of(&set.metadata)).filter(|owner| owner.kind == "Deployment");
            let key = owner.map(|owner| ObjectKey::new(&change.key.cluster, &change.key.namespace, &owner.name));
            key.filter(|key| recreated.get(key).is_some_and(|deployment| recreates(&deployment))).into_iter().collect()
        })
}

fn recreates(deployment: &Deployment) -> bool {
    deployment.spec.strategy.as_ref().and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate")
}

impl Deployments {
    async fn set_status(&self, key: &ObjectKey, status: DeploymentStatus) -> Result<(), Error> {
        if let Some(deployment) = self.deployments.get(key) {
            self.deployments.replace_status(&key.cluster, &Deployment { status: Some(status), ..(*deployment).clone() }).await?;
        }
        Ok(())
    }

    /// A set of this name is there already: it is ours from before, or another template has the same hash.
    async fn after_collision(&self, key: &ObjectKey, set: &ReplicaSet) -> Result<(), Error> {
        let Some(deployment) = self.deployments.get(key) else { return Ok(()) };
        let found = self.sets.fresh(&ObjectKey::of(&key.cluster, &set.metadata)).await?;
        let uid = deployment.metadata.uid.as_deref().unwrap_or_default();
        let ours = found
            .as_ref()
            .is_some_and(|found| owners::is_controlled_by(&found.metadata, uid) && revision::same(found.spec.template.as_ref(), &deployment.spec.template));
        if !ours {
            let mut status = deployment.status.clone().unwrap_or_default();
            status.collision_count = Some(status.collision_count.unwrap_or_default() + 1);
            self.set_status(key, status).await?;
        }
        Err(Error::NotYet(format!("replica set {:?} exists already", set.metadata.name.as_deref().unwrap_or_default())))
    }
}

#[async_trait]
impl Controller for Deployments {
    type World = World;
    type Action = Action;

    fn name(&self) -> &'static str {
        "deployment-controller"
    }

    fn observe(&self, key: &ObjectKey) -> Option<World> {
        let deployment = self.deployments.get(key)?;
        let uid = deployment.metadata.uid.as_deref()?;
        let sets = owners::candidates(&self.sets, key, uid);
        let own = sets.iter().filter(|set| owners::is_controlled_by(&set.metadata, uid)).filter_map(|set| set.metadata.uid.as_deref());
        let pods = if recreates(&deployment) { own.flat_map(|uid| self.pods.by_index(BY_CONTROLLER, &key.cluster, uid)).collect() } else { Vec::new() };
        Some(World { deployment, sets, pods, now: self.kit.now() })
    }

    fn reconcile(world: &World) -> Plan<Action> {
        reconcile::reconcile(world)
    }

    async fn act(&self, key: &ObjectKey, action: Action) -> Result<(), Error> {
        let Some(deployment) = self.deployments.get(key) else { return Ok(()) };
        let uid = deployment.metadata.uid.as_deref().unwrap_or_default();
        match action {
            Action::WarnSelectingAll => {
                let message = "This deployment is selecting all pods. A non-empty selector is required.";
                self.events.warning(&key.cluster, &*deployment, "SelectingAll", message);
                Ok(())
            }
            Action::Adopt(set) => owners::adopt(&self.deployments, key, uid, &self.sets, &*set).await,
            Action::Release(set) => owners::release(key, uid, &self.sets, &*set).await,
            Action::CreateSet(set) => match self.sets.create(&key.cluster, &set).await {
                Ok(made) => {
                    let replicas = made.spec.replicas.unwrap_or_default();
                    if replicas > 0 {
                        self.events.normal(&key.cluster, &*deployment, "ScalingReplicaSet", scaled_message(&made, 0, replicas));
                    }
                    Ok(())
                }
                Err(error) if error.is_already_exists() => self.after_collision(key, &set).await,
                Err(error) => {
                    if !error.is_namespace_terminating() {
                        let name = set.metadata.name.as_deref().unwrap_or_default();
                        self.events.warning(&key.cluster, &*deployment, "ReplicaSetCreateError", format!("Failed to create new replica set {name:?}: {error}"));
                    }
                    Err(error)
                }
            },
            Action::UpdateSet { set, from } => {
                let made = self.sets.replace(&key.cluster, &set).await?;
                let to = made.spec.replicas.unwrap_or_default();
                if to != from {
                    self.events.normal(&key.cluster, &*deployment, "ScalingReplicaSet", scaled_message(&made, from, to));
                }
                Ok(())
            }
            Action::DeleteSet(set) => {
                let deletion = Deletion { preconditions: Preconditions::exactly(&set.metadata), ..Default::default() };
                self.sets.delete(&ObjectKey::of(&key.cluster, &set.metadata), &deletion).await
            }
            Action::SetRevision(revision) => {
                let patch = json!({"metadata": {"annotations": {revision::REVISION: revision}}});
                self.deployments.patch(key, "", &patch, &Preconditions::uid_of(&deployment.metadata)).await?;
                Ok(())
            }
            Action::SetStatus(status) => self.set_status(key, status).await,
        }
    }

    async fn failed(&self, key: &ObjectKey, world: &World, error: &Error) {
        let plan = reconcile::reconcile(world);
        let creating = plan.actions.iter().find_map(|action| match action {
            Action::CreateSet(set) => set.metadata.name.clone(),
            _ => None,
        });
        let Some(name) = creating.filter(|_| !error.is_conflict() && !matches!(error, Error::NotYet(_))) else { return };
        let mut status = world.deployment.status.clone().unwrap_or_default();
        let condition =
            status::condition(status::PROGRESSING, "False", "ReplicaSetCreateError", format!("Failed to create new replica set {name:?}: {error}"), world.now);
        status::set(status.conditions.get_or_insert_default(), condition);
        if let Err(error) = self.set_status(key, status).await {
            tracing::debug!(%key, %error, "the failure could not be told in the status");
        }
    }
}

fn scaled_message(set: &ReplicaSet, from: i32, to: i32) -> String {
    let direction = if to > from { "up" } else { "down" };
    format!("Scaled {direction} replica set {} from {from} to {to}", set.metadata.name.as_deref().unwrap_or_default())
}
