//! DaemonSet: one pod on every node that can have it.
mod placement;
mod reconcile;
#[cfg(test)]
mod tests;

use crate::history::Step;
use crate::owners::{self, BY_CONTROLLER};
use crate::pods;
use api_meta::ClusterName;
use controller_kit::{Controller, Deletion, Error, Kit, ObjectKey, Objects, Plan, Preconditions, Recorder, Runner, async_trait, selector, slow_start};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet};
use k8s_openapi::api::core::v1::{Node, Pod};
use parking_lot::Mutex;
use reconcile::{Action, World};
use serde_json::json;
use std::collections::HashMap;
use std::sync::Arc;

/// Failures of a set's pods on a node: how many in a row, and when the next may be replaced.
type Failures = HashMap<(String, String), (u32, Timestamp)>;

pub struct DaemonSets {
    kit: Kit,
    sets: Objects<DaemonSet>,
    pods: Objects<Pod>,
    nodes: Objects<Node>,
    revisions: Objects<ControllerRevision>,
    events: Recorder,
    failures: Mutex<Failures>,
}

pub fn runner(kit: &Kit) -> Runner<DaemonSets> {
    let (sets, pods) = (kit.objects::<DaemonSet>(), kit.objects::<Pod>());
    let (nodes, revisions) = (kit.objects::<Node>(), kit.objects::<ControllerRevision>());
    pods.add_index(BY_CONTROLLER, owners::by_controller);
    revisions.add_index(BY_CONTROLLER, owners::by_controller);
    let controller = DaemonSets {
        kit: kit.clone(),
        sets: sets.clone(),
        pods: pods.clone(),
        nodes: nodes.clone(),
        revisions: revisions.clone(),
        events: kit.recorder("daemonset-controller"),
        failures: Mutex::default(),
    };
    let (all, selecting) = (sets.clone(), sets.clone());
    Runner::new(controller)
        .watch_own(&sets)
        .watch(&revisions, |change| owners::owner_keys(change, "DaemonSet", |_, _| Vec::new()))
        .watch(&nodes, move |change| {
            // Heartbeats concern nobody: labels and taints decide who belongs.
            let shape =
                |node: &Option<Arc<Node>>| node.as_ref().map(|node| (node.metadata.labels.clone(), node.spec.as_ref().and_then(|spec| spec.taints.clone())));
            if shape(&change.old) == shape(&change.new) {
                return Vec::new();
            }
            let concerned = |key: &ObjectKey| change.key.cluster.is_root() || key.cluster == change.key.cluster;
            all.all().into_iter().map(|(key, _)| key).filter(concerned).collect()
        })
        .watch(&pods, move |change| {
            owners::owner_keys(change, "DaemonSet", |key, metadata| {
                let all = selecting.list(&key.cluster, Some(&key.namespace)).into_iter();
                let all = all.filter(|set| selector(&set.spec.selector).is_ok_and(|of| !of.is_everything() && of.matches(&metadata.labels)));
                all.map(|set| ObjectKey::of(&key.cluster, &set.metadata)).collect()
            })
        })
}

impl DaemonSets {
    async fn delete_pod(&self, key: &ObjectKey, set: &DaemonSet, pod: &Pod) -> Result<(), Error> {
        let deletion = Deletion { preconditions: Preconditions::uid_of(&pod.metadata), ..Default::default() };
        match self.pods.delete(&ObjectKey::of(&key.cluster, &pod.metadata), &deletion).await {
            Ok(()) => self.events.normal(&key.cluster, set, "SuccessfulDelete", format!("Deleted pod: {}", pods::name(pod))),
            Err(error) if error.is_conflict() => {}
            Err(error) => {
                self.events.warning(&key.cluster, set, "FailedDelete", format!("Error deleting: {error}"));
                return Err(error);
            }
        }
        Ok(())
    }

    /// From 1 s, doubling, to 15 min; forgotten when a pod has lived for twice as long.
    fn note_failure(&self, uid: &str, node: &str) {
        let now = self.kit.now();
        let mut failures = self.failures.lock();
        failures.retain(|_, (_, until)| now.duration_since(*until) < SignedDuration::from_secs(1800));
        let (count, until) = failures.entry((uid.to_owned(), node.to_owned())).or_insert((0, now));
        let delay = SignedDuration::from_secs((1i64 << (*count).min(10)).min(900));
        *count += 1;
        *until = now.saturating_add(delay).unwrap_or(now);
    }
}

#[async_trait]
impl Controller for DaemonSets {
    type World = World;
    type Action = Action;

    fn name(&self) -> &'static str {
        "daemonset-controller"
    }

    fn observe(&self, key: &ObjectKey) -> Option<World> {
        let set = self.sets.get(key)?;
        let uid = set.metadata.uid.clone()?;
        let failures = self.failures.lock();
        let backoffs = failures.iter().filter(|((of, _), _)| *of == uid).map(|((_, node), (_, until))| (node.clone(), *until)).collect();
        Some(World {
            pods: owners::candidates(&self.pods, key, &uid),
            revisions: owners::candidates(&self.revisions, key, &uid),
            // Where a cluster has nodes of its own, its pods run there; all others' run on the host cluster's.
            nodes: match self.nodes.list(&key.cluster, None) {
                own if !own.is_empty() => own,
                _ => self.nodes.list(&ClusterName::root(), None),
            },
            set,
            backoffs,
            now: self.kit.now(),
        })
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
                let of = ObjectKey::of(&key.cluster, &revision.metadata);
                self.revisions.patch(&of, "", &json!({ "revision": number }), &Preconditions::exactly(&revision.metadata)).await?;
                Ok(())
            }
            Action::Revise(Step::Create(revision)) => match self.revisions.create(&key.cluster, &revision).await {
                Ok(_) => Ok(()),
                Err(error) if error.is_already_exists() => {
                    let found = self.revisions.fresh(&ObjectKey::of(&key.cluster, &revision.metadata)).await?;
                    if found.is_none_or(|found| found.data != revision.data) {
                        let mut status = set.status.clone().unwrap_or_default();
                        status.collision_count = Some(status.collision_count.unwrap_or_default() + 1);
                        self.sets.replace_status(&key.cluster, &DaemonSet { status: Some(status), ..(*set).clone() }).await?;
                    }
                    Err(error)
                }
                Err(error) => Err(error),
            },
            Action::CreatePods(pods) => {
                let set = &*set;
                let create = |pod: Pod| async move {
                    match self.pods.create(&key.cluster, &pod).await {
                        Ok(made) => {
                            self.events.normal(&key.cluster, set, "SuccessfulCreate", format!("Created pod: {}", pods::name(&made)));
                            Ok(())
                        }
                        Err(error) => {
                            if !error.is_namespace_terminating() {
                                self.events.warning(&key.cluster, set, "FailedCreate", format!("Error creating: {error}"));
                            }
                            Err(error)
                        }
                    }
                };
                slow_start(pods, create).await.1
            }
            Action::DeletePods(doomed) => futures::future::try_join_all(doomed.iter().map(|pod| self.delete_pod(key, &set, pod))).await.map(|_| ()),
            Action::ReplaceEnded { pod, node } => {
                self.note_failure(uid, &node);
                let place = format!("daemon pod {}/{} on node {node}, will try to", key.namespace, pods::name(&pod));
                if pods::phase(&pod) == "Failed" {
                    self.events.warning(&key.cluster, &*set, "FailedDaemonPod", format!("Found failed {place} kill it"));
                } else {
                    self.events.normal(&key.cluster, &*set, "SucceededDaemonPod", format!("Found succeeded {place} delete it"));
                }
                self.delete_pod(key, &set, &pod).await
            }
            Action::DeleteRevision(revision) => {
                let deletion = Deletion { preconditions: Preconditions::uid_of(&revision.metadata), ..Default::default() };
                self.revisions.delete(&ObjectKey::of(&key.cluster, &revision.metadata), &deletion).await
            }
            Action::SetStatus(status) => {
                self.sets.replace_status(&key.cluster, &DaemonSet { status: Some(status), ..(*set).clone() }).await?;
                Ok(())
            }
        }
    }
}
