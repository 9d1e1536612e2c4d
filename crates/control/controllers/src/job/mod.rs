//! Job: runs pods until enough of them have succeeded, and counts each exactly once.
mod failure_policy;
mod indexes;
pub mod orphans;
mod reconcile;
mod tally;
#[cfg(test)]
mod tests;
pub mod ttl;

pub use reconcile::{Action, World, condition_of, is_finished};

use crate::owners::{self, BY_CONTROLLER};
use crate::{pods, templates};
use api_meta::ClusterName;
use controller_kit::{Controller, Deletion, Error, Kit, ObjectKey, Objects, Plan, Preconditions, Recorder, Runner, async_trait, selector, slow_start};
use futures::future::try_join_all;
use k8s_openapi::api::batch::v1::{Job, JobStatus};
use k8s_openapi::api::core::v1::{EnvVar, EnvVarSource, ObjectFieldSelector, Pod};
use serde_json::json;
use std::sync::Arc;

pub struct Jobs {
    kit: Kit,
    jobs: Objects<Job>,
    pods: Objects<Pod>,
    events: Recorder,
}

pub fn runner(kit: &Kit) -> Runner<Jobs> {
    let (jobs, pods) = (kit.objects::<Job>(), kit.objects::<Pod>());
    pods.add_index(BY_CONTROLLER, owners::by_controller);
    let controller = Jobs { kit: kit.clone(), jobs: jobs.clone(), pods: pods.clone(), events: kit.recorder("job-controller") };
    let all = jobs.clone();
    Runner::new(controller).watch_own(&jobs).watch(&pods, move |change| {
        owners::owner_keys(change, "Job", |key, metadata| {
            let selecting = all.list(&key.cluster, Some(&key.namespace)).into_iter().filter(|job| {
                let of = job.spec.as_ref().and_then(|spec| spec.selector.as_ref());
                of.and_then(|of| selector(of).ok()).is_some_and(|of| !of.is_everything() && of.matches(&metadata.labels))
            });
            selecting.map(|job| ObjectKey::of(&key.cluster, &job.metadata)).collect()
        })
    })
}

impl Jobs {
    async fn set_status(&self, key: &ObjectKey, status: JobStatus) -> Result<(), Error> {
        if let Some(job) = self.jobs.get(key) {
            self.jobs.replace_status(&key.cluster, &Job { status: Some(status), ..(*job).clone() }).await?;
        }
        Ok(())
    }

    async fn delete(&self, key: &ObjectKey, job: &Job, doomed: Vec<Arc<Pod>>) -> Result<(), Error> {
        let delete = |pod: Arc<Pod>| async move {
            let deletion = Deletion { preconditions: Preconditions::uid_of(&pod.metadata), ..Default::default() };
            match self.pods.delete(&ObjectKey::of(&key.cluster, &pod.metadata), &deletion).await {
                Ok(()) => self.events.normal(&key.cluster, job, "SuccessfulDelete", format!("Deleted pod: {}", pods::name(&pod))),
                Err(error) if error.is_conflict() => {}
                Err(error) => {
                    self.events.warning(&key.cluster, job, "FailedDelete", format!("Error deleting: {error}"));
                    return Err(error);
                }
            }
            Ok(())
        };
        try_join_all(doomed.into_iter().map(delete)).await.map(|_| ())
    }

    async fn let_go(&self, key: &ObjectKey, pods: &[Arc<Pod>]) -> Result<(), Error> {
        try_join_all(pods.iter().map(|pod| let_go(&self.pods, &key.cluster, pod))).await.map(|_| ())
    }

    async fn create(&self, key: &ObjectKey, job: &Job, pods: Vec<Pod>) -> Result<(), Error> {
        let create = |pod: Pod| async move {
            match self.pods.create(&key.cluster, &pod).await {
                Ok(made) => {
                    self.events.normal(&key.cluster, job, "SuccessfulCreate", format!("Created pod: {}", pods::name(&made)));
                    Ok(())
                }
                Err(error) => {
                    if !error.is_namespace_terminating() {
                        self.events.warning(&key.cluster, job, "FailedCreate", format!("Error creating: {error}"));
                    }
                    Err(error)
                }
            }
        };
        slow_start(pods, create).await.1
    }
}

/// Takes the tracking finalizer off a pod; one that is gone is no error.
async fn let_go(pods: &Objects<Pod>, cluster: &ClusterName, pod: &Pod) -> Result<(), Error> {
    let key = ObjectKey::of(cluster, &pod.metadata);
    // The newest known: it may have been deleted in this same round.
    let Some(pod) = pods.get(&key).filter(|now| now.metadata.uid == pod.metadata.uid && tally::has_finalizer(now)) else { return Ok(()) };
    let mut left = pod.metadata.finalizers.clone().unwrap_or_default();
    left.retain(|finalizer| finalizer != tally::FINALIZER);
    let patch = json!({"metadata": {"finalizers": left}});
    match pods.patch(&key, "", &patch, &Preconditions::exactly(&pod.metadata)).await {
        Ok(after) => {
            // The last finalizer of a deleted pod takes it away.
            if after.metadata.deletion_timestamp.is_some() && left.is_empty() && after.metadata.deletion_grace_period_seconds == Some(0) {
                pods.removed(&key, after.metadata.uid.as_deref().unwrap_or_default());
            }
            Ok(())
        }
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) => Err(error),
    }
}

fn new_pod(job: &Job, prefix: &str) -> Pod {
    let template = job.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
    let mut pod = templates::pod_from_template(&template, job.metadata.namespace.as_deref().unwrap_or_default(), prefix, owners::controller_reference(job));
    pod.metadata.finalizers.get_or_insert_default().push(tally::FINALIZER.to_owned());
    pod
}

/// A pod that knows its index: by name, host name, label, annotation and environment.
fn indexed_pod(job: &Job, index: i32, failures: Option<i32>) -> Pod {
    let name = job.metadata.name.as_deref().unwrap_or_default();
    let mut pod = new_pod(job, &format!("{name}-{index}"));
    let text = index.to_string();
    pod.metadata.labels.get_or_insert_default().insert(tally::INDEX.into(), text.clone());
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(tally::INDEX.into(), text);
    if let Some(failures) = failures {
        annotations.insert(tally::FAILURE_COUNT.into(), failures.to_string());
    }
    if let Some(spec) = &mut pod.spec {
        spec.hostname = Some(format!("{name}-{index}"));
        let variable = || EnvVar {
            name: "JOB_COMPLETION_INDEX".into(),
            value_from: Some(EnvVarSource {
                field_ref: Some(ObjectFieldSelector { api_version: None, field_path: format!("metadata.labels['{}']", tally::INDEX) }),
                ..Default::default()
            }),
            ..Default::default()
        };
        for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
            let environment = container.env.get_or_insert_default();
            if environment.iter().all(|variable| variable.name != "JOB_COMPLETION_INDEX") {
                environment.push(variable());
            }
        }
    }
    pod
}

#[async_trait]
impl Controller for Jobs {
    type World = World;
    type Action = Action;

    fn name(&self) -> &'static str {
        "job-controller"
    }

    fn observe(&self, key: &ObjectKey) -> Option<World> {
        let job = self.jobs.get(key)?;
        let pods = owners::candidates(&self.pods, key, job.metadata.uid.as_deref()?);
        Some(World { job, pods, now: self.kit.now() })
    }

    fn reconcile(world: &World) -> Plan<Action> {
        reconcile::reconcile(world)
    }

    async fn act(&self, key: &ObjectKey, action: Action) -> Result<(), Error> {
        let Some(job) = self.jobs.get(key) else { return Ok(()) };
        let uid = job.metadata.uid.as_deref().unwrap_or_default();
        match action {
            Action::Adopt(pod) => owners::adopt(&self.jobs, key, uid, &self.pods, &*pod).await,
            Action::Release(pod) => owners::release(key, uid, &self.pods, &*pod).await,
            Action::CreatePods(count) => self.create(key, &job, vec![new_pod(&job, &key.name); count]).await,
            Action::CreateIndexed(indexes) => {
                self.create(key, &job, indexes.into_iter().map(|(index, failures)| indexed_pod(&job, index, failures)).collect()).await
            }
            Action::FailPods(doomed) => self.delete(key, &job, doomed).await,
            Action::EndPods(doomed) => {
                // Without the finalizer they go uncounted.
                self.let_go(key, &doomed).await?;
                self.delete(key, &job, doomed).await
            }
            Action::SetStatus(status) => self.set_status(key, *status).await,
            Action::RemoveFinalizers(pods) => self.let_go(key, &pods).await,
            Action::Tell { warning, reason, message } => {
                if warning {
                    self.events.warning(&key.cluster, &*job, &reason, message);
                } else {
                    self.events.normal(&key.cluster, &*job, &reason, message);
                }
                Ok(())
            }
        }
    }
}
