//! ReplicaSet (and its elder, ReplicationController): keeps so many pods of a template.
mod counts;
mod ranking;
mod reconcile;
#[cfg(test)]
mod tests;

pub use ranking::deletion_order;
pub use reconcile::{Action, Pods, World};

use crate::owners::{self, BY_CONTROLLER};
use crate::{pods, templates};
use controller_kit::{Controller, Deletion, Error, Kind, Kit, ObjectKey, Objects, Plan, Preconditions, Recorder, Runner, async_trait, selector, slow_start};
use counts::{PodCounts, by_set};
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetSpec, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{Pod, ReplicationController, ReplicationControllerCondition, ReplicationControllerStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use std::collections::HashMap;
use std::sync::Arc;

/// A kind that can be seen as a ReplicaSet.
pub trait Replicated: Kind {
    const CONTROLLER: &'static str;
    fn as_replica_set(self: &Arc<Self>) -> Arc<ReplicaSet>;
    fn with_status(&self, status: ReplicaSetStatus) -> Self;
}

impl Replicated for ReplicaSet {
    const CONTROLLER: &'static str = "replicaset-controller";
    fn as_replica_set(self: &Arc<Self>) -> Arc<ReplicaSet> {
        self.clone()
    }
    fn with_status(&self, status: ReplicaSetStatus) -> Self {
        Self { status: Some(status), ..self.clone() }
    }
}

impl Replicated for ReplicationController {
    const CONTROLLER: &'static str = "replication-controller";
    fn as_replica_set(self: &Arc<Self>) -> Arc<ReplicaSet> {
        let spec = self.spec.clone().unwrap_or_default();
        let condition = |c: ReplicationControllerCondition| ReplicaSetCondition {
            type_: Some(c.type_),
            status: Some(c.status),
            reason: c.reason,
            message: c.message,
            last_transition_time: c.last_transition_time,
        };
        Arc::new(ReplicaSet {
            metadata: self.metadata.clone(),
            spec: ReplicaSetSpec {
                replicas: spec.replicas,
                min_ready_seconds: spec.min_ready_seconds,
                selector: LabelSelector { match_labels: spec.selector, match_expressions: None },
                template: spec.template,
            },
            status: self.status.clone().map(|status| ReplicaSetStatus {
                replicas: status.replicas,
                fully_labeled_replicas: status.fully_labeled_replicas,
                ready_replicas: status.ready_replicas,
                available_replicas: status.available_replicas,
                // ReplicationControllers have no such count: what the sum would be is what they are taken to say.
                terminating_replicas: Some(0),
                observed_generation: status.observed_generation,
                conditions: status.conditions.map(|all| all.into_iter().map(condition).collect()),
            }),
        })
    }
    fn with_status(&self, status: ReplicaSetStatus) -> Self {
        let condition = |c: ReplicaSetCondition| ReplicationControllerCondition {
            type_: c.type_.unwrap_or_default(),
            status: c.status.unwrap_or_default(),
            reason: c.reason,
            message: c.message,
            last_transition_time: c.last_transition_time,
        };
        let status = ReplicationControllerStatus {
            replicas: status.replicas,
            fully_labeled_replicas: status.fully_labeled_replicas,
            ready_replicas: status.ready_replicas,
            available_replicas: status.available_replicas,
            observed_generation: status.observed_generation,
            conditions: status.conditions.map(|all| all.into_iter().map(condition).collect()),
        };
        Self { status: Some(status), ..self.clone() }
    }
}

pub struct ReplicaSets<K> {
    kit: Kit,
    sets: Objects<K>,
    pods: Objects<Pod>,
    events: Recorder,
}

/// Wires the controller: sets and their pods wake it.
pub fn runner<K: Replicated>(kit: &Kit) -> Runner<ReplicaSets<K>> {
    let (sets, pods) = (kit.objects::<K>(), kit.objects::<Pod>());
    pods.add_index(BY_CONTROLLER, owners::by_controller);
    pods.add_tally::<PodCounts>(by_set);
    sets.add_index(BY_CONTROLLER, owners::by_controller);
    let controller = ReplicaSets { kit: kit.clone(), sets: sets.clone(), pods: pods.clone(), events: kit.recorder(K::CONTROLLER) };
    let all = sets.clone();
    Runner::new(controller).watch_own(&sets).watch(&pods, move |change| {
        owners::owner_keys(change, K::KIND, |key, metadata| {
            let selecting = all
                .list(&key.cluster, Some(&key.namespace))
                .into_iter()
                .filter(|set| selector(&set.as_replica_set().spec.selector).is_ok_and(|matcher| !matcher.is_everything() && matcher.matches(&metadata.labels)));
            selecting.map(|set| ObjectKey::of(&key.cluster, set.metadata())).collect()
        })
    })
}

impl<K: Replicated> ReplicaSets<K> {
    /// Active pods by node of all sets that share this set's owner.
    fn on_node(&self, key: &ObjectKey, set: &ReplicaSet) -> HashMap<String, usize> {
        let uid = set.metadata.uid.clone().unwrap_or_default();
        let relatives = match owners::controller_of(&set.metadata) {
            Some(owner) => self.sets.by_index(BY_CONTROLLER, &key.cluster, &owner.uid).iter().filter_map(|set| set.metadata().uid.clone()).collect(),
            None => vec![uid],
        };
        let mut counts = HashMap::new();
        for pod in relatives.iter().flat_map(|uid| self.pods.by_index(BY_CONTROLLER, &key.cluster, uid)).filter(|pod| pods::is_active(pod)) {
            *counts.entry(pods::node_name(&pod).to_owned()).or_default() += 1;
        }
        counts
    }

    async fn set_status(&self, key: &ObjectKey, status: ReplicaSetStatus) -> Result<(), Error> {
        if let Some(set) = self.sets.get(key) {
            self.sets.replace_status(&key.cluster, &set.with_status(status)).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl<K: Replicated> Controller for ReplicaSets<K> {
    type World = World;
    type Action = Action;

    fn name(&self) -> &'static str {
        K::CONTROLLER
    }

    fn observe(&self, key: &ObjectKey) -> Option<World> {
        let set = self.sets.get(key)?.as_replica_set();
        let uid = set.metadata.uid.as_deref()?;
        let counts = self.pods.tally::<PodCounts>(&key.cluster, uid);
        let orphans = owners::orphans(&self.pods, key);
        let (pods, on_node) = if reconcile::counts_suffice(&set, &counts, &orphans) {
            (Pods::Counted(counts), HashMap::new())
        } else {
            let mut pods = owners::own(&self.pods, key, uid);
            pods.extend(orphans);
            (Pods::Each(pods), self.on_node(key, &set))
        };
        Some(World { set, pods, on_node, now: self.kit.now() })
    }

    fn reconcile(world: &World) -> Plan<Action> {
        reconcile::reconcile(world)
    }

    async fn act(&self, key: &ObjectKey, action: Action) -> Result<(), Error> {
        let Some(owner) = self.sets.get(key) else { return Ok(()) };
        let set = owner.as_replica_set();
        let uid = set.metadata.uid.as_deref().unwrap_or_default();
        match action {
            Action::Adopt(pod) => owners::adopt(&self.sets, key, uid, &self.pods, &*pod).await,
            Action::Release(pod) => owners::release(key, uid, &self.pods, &*pod).await,
            Action::CreatePods(count) => {
                let template = set.spec.template.clone().unwrap_or_default();
                let pod = templates::pod_from_template(&template, &key.namespace, &key.name, owners::controller_reference(&*owner));
                let create = |()| async {
                    match self.pods.create(&key.cluster, &pod).await {
                        Ok(made) => self.events.normal(&key.cluster, &*owner, "SuccessfulCreate", format!("Created pod: {}", pods::name(&made))),
                        Err(error) => {
                            if !error.is_namespace_terminating() {
                                self.events.warning(&key.cluster, &*owner, "FailedCreate", format!("Error creating: {error}"));
                            }
                            return Err(error);
                        }
                    }
                    Ok(())
                };
                slow_start(vec![(); count], create).await.1
            }
            Action::DeletePods(doomed) => {
                let owner = &*owner;
                let delete = |pod: Arc<Pod>| async move {
                    let deletion = Deletion { preconditions: Preconditions::uid_of(&pod.metadata), ..Default::default() };
                    match self.pods.delete(&ObjectKey::of(&key.cluster, &pod.metadata), &deletion).await {
                        Ok(()) => self.events.normal(&key.cluster, owner, "SuccessfulDelete", format!("Deleted pod: {}", pods::name(&pod))),
                        // Another pod has its name by now.
                        Err(error) if error.is_conflict() => {}
                        Err(error) => {
                            self.events.warning(&key.cluster, owner, "FailedDelete", format!("Error deleting: {error}"));
                            return Err(error);
                        }
                    }
                    Ok(())
                };
                futures::future::try_join_all(doomed.into_iter().map(delete)).await.map(|_| ())
            }
            Action::SetStatus(status) => self.set_status(key, status).await,
        }
    }

    async fn failed(&self, key: &ObjectKey, world: &World, error: &Error) {
        if error.is_conflict() {
            return;
        }
        if let Some(status) = reconcile::failed_status(world, &error.to_string())
            && let Err(error) = self.set_status(key, status).await
        {
            tracing::debug!(%key, %error, "the failure could not be told in the status");
        }
    }
}
