//! PodDisruptionBudget: says how many pods may be evicted now.
mod reconcile;
pub mod stale;
#[cfg(test)]
mod tests;

use crate::owners::controller_of;
use controller_kit::{Change, Controller, Error, Kit, ObjectKey, Objects, Plan, Recorder, Runner, async_trait, selector};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
pub use reconcile::{Action, World};
use reconcile::{Owner, Scale};
use std::collections::HashMap;
use std::time::Duration;

/// How long an eviction may take until the pod counts as staying.
pub const DELETION_TIMEOUT: Duration = Duration::from_secs(120);

pub struct Disruption {
    kit: Kit,
    budgets: Objects<PodDisruptionBudget>,
    pods: Objects<Pod>,
    deployments: Objects<Deployment>,
    replica_sets: Objects<ReplicaSet>,
    stateful_sets: Objects<StatefulSet>,
    replication_controllers: Objects<ReplicationController>,
    events: Recorder,
}

pub fn runner(kit: &Kit) -> Runner<Disruption> {
    let (budgets, pods) = (kit.objects::<PodDisruptionBudget>(), kit.objects::<Pod>());
    let controller = Disruption {
        kit: kit.clone(),
        budgets: budgets.clone(),
        pods: pods.clone(),
        deployments: kit.objects(),
        replica_sets: kit.objects(),
        stateful_sets: kit.objects(),
        replication_controllers: kit.objects(),
        events: kit.recorder("controllermanager"),
    };
    let (deployments, replica_sets) = (controller.deployments.clone(), controller.replica_sets.clone());
    let (stateful_sets, replication_controllers) = (controller.stateful_sets.clone(), controller.replication_controllers.clone());
    let all = budgets.clone();
    Runner::new(controller)
        .needs(&deployments)
        .needs(&replica_sets)
        .needs(&stateful_sets)
        .needs(&replication_controllers)
        .watch_own(&budgets)
        .watch(&pods, move |change| concerned(&all, change))
}

/// The budgets that select the pod as it was or is.
fn concerned(budgets: &Objects<PodDisruptionBudget>, change: &Change<Pod>) -> Vec<ObjectKey> {
    let all = budgets.list(&change.key.cluster, Some(&change.key.namespace));
    let selects = |budget: &PodDisruptionBudget| {
        let of = budget.spec.as_ref()?.selector.as_ref()?;
        let matcher = selector(of).ok()?;
        let pods = change.old.iter().chain(&change.new);
        pods.into_iter().any(|pod| matcher.matches(&pod.metadata.labels)).then_some(())
    };
    all.iter().filter(|budget| selects(budget).is_some()).map(|budget| ObjectKey::of(&change.key.cluster, &budget.metadata)).collect()
}

impl Disruption {
    /// The scale behind a pod's controller; a ReplicaSet's is its Deployment's.
    fn scale(&self, key: &ObjectKey, owner: &OwnerReference) -> Option<Scale> {
        let at = ObjectKey::new(&key.cluster, &key.namespace, &owner.name);
        let same = |uid: &Option<String>| uid.as_deref() == Some(&owner.uid);
        let scale = |replicas: Option<i32>| Scale { uid: owner.uid.clone(), replicas: replicas.unwrap_or(1) };
        match (owner.kind.as_str(), owner.api_version.split('/').next()?) {
            ("ReplicationController", "v1") => {
                let found = self.replication_controllers.get(&at).filter(|found| same(&found.metadata.uid))?;
                Some(scale(found.spec.as_ref().and_then(|spec| spec.replicas)))
            }
            ("StatefulSet", "apps") => {
                let found = self.stateful_sets.get(&at).filter(|found| same(&found.metadata.uid))?;
                Some(scale(found.spec.replicas))
            }
            ("Deployment", "apps") => {
                let found = self.deployments.get(&at).filter(|found| same(&found.metadata.uid))?;
                Some(scale(found.spec.replicas))
            }
            ("ReplicaSet", "apps") => {
                let found = self.replica_sets.get(&at).filter(|found| same(&found.metadata.uid))?;
                match controller_of(&found.metadata).filter(|above| above.kind == "Deployment") {
                    Some(deployment) => self.scale(key, deployment),
                    None => Some(scale(found.spec.replicas)),
                }
            }
            _ => None,
        }
    }
}

#[async_trait]
impl Controller for Disruption {
    type World = World;
    type Action = Action;

    fn name(&self) -> &'static str {
        "disruption-controller"
    }

    fn observe(&self, key: &ObjectKey) -> Option<World> {
        let budget = self.budgets.get(key)?;
        let of = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        let matcher = of.and_then(|of| selector(of).ok());
        let mut pods = self.pods.list(&key.cluster, Some(&key.namespace));
        pods.retain(|pod| matcher.as_ref().is_some_and(|matcher| matcher.matches(&pod.metadata.labels)));
        let mut owners = HashMap::new();
        for owner in pods.iter().filter_map(|pod| controller_of(&pod.metadata)) {
            owners.entry(owner.uid.clone()).or_insert_with(|| match self.scale(key, owner) {
                Some(scale) => Owner::Scaled(scale),
                None => Owner::without_scale(owner),
            });
        }
        Some(World { budget, pods, owners, now: self.kit.now() })
    }

    fn reconcile(world: &World) -> Plan<Action> {
        reconcile::reconcile(world)
    }

    async fn act(&self, key: &ObjectKey, action: Action) -> Result<(), Error> {
        let Some(budget) = self.budgets.get(key) else { return Ok(()) };
        match action {
            Action::SetStatus(status) => {
                self.budgets.replace_status(&key.cluster, &PodDisruptionBudget { status: Some(*status), ..(*budget).clone() }).await?;
            }
            Action::Tell { warning: true, reason, message } => self.events.warning(&key.cluster, &*budget, reason, message),
            Action::Tell { warning: false, reason, message } => self.events.normal(&key.cluster, &*budget, reason, message),
            Action::TellNotDeleted(pod) => {
                let message = format!("Pod was expected by PDB {}/{} to be deleted but it wasn't", key.namespace, key.name);
                self.events.warning(&key.cluster, &*pod, "NotDeleted", message);
            }
        }
        Ok(())
    }
}
