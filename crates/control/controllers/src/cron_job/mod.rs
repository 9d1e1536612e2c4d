//! CronJob: starts a Job whenever its schedule says so.
mod reconcile;
mod schedule;
#[cfg(test)]
mod tests;

use crate::owners::{self, BY_CONTROLLER};
use controller_kit::{Controller, Deletion, Error, Kit, ObjectKey, Objects, Plan, Preconditions, Recorder, Runner, async_trait};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use reconcile::{Action, World};

pub struct CronJobs {
    kit: Kit,
    cron_jobs: Objects<CronJob>,
    jobs: Objects<Job>,
    events: Recorder,
}

pub fn runner(kit: &Kit) -> Runner<CronJobs> {
    let (cron_jobs, jobs) = (kit.objects::<CronJob>(), kit.objects::<Job>());
    jobs.add_index(BY_CONTROLLER, owners::by_controller);
    let controller = CronJobs { kit: kit.clone(), cron_jobs: cron_jobs.clone(), jobs: jobs.clone(), events: kit.recorder("cronjob-controller") };
    Runner::new(controller).watch_own(&cron_jobs).watch(&jobs, |change| owners::owner_keys(change, "CronJob", |_, _| Vec::new()))
}

#[async_trait]
impl Controller for CronJobs {
    type World = World;
    type Action = Action;

    fn name(&self) -> &'static str {
        "cronjob-controller"
    }

    fn observe(&self, key: &ObjectKey) -> Option<World> {
        let cron_job = self.cron_jobs.get(key)?;
        let jobs = self.jobs.by_index(BY_CONTROLLER, &key.cluster, cron_job.metadata.uid.as_deref()?);
        Some(World { cron_job, jobs, now: self.kit.now() })
    }

    fn reconcile(world: &World) -> Plan<Action> {
        reconcile::reconcile(world)
    }

    async fn act(&self, key: &ObjectKey, action: Action) -> Result<(), Error> {
        let Some(cron_job) = self.cron_jobs.get(key) else { return Ok(()) };
        match action {
            Action::CreateJob(job) => match self.jobs.create(&key.cluster, &job).await {
                Ok(made) => {
                    let message = format!("Created job {}", made.metadata.name.as_deref().unwrap_or_default());
                    self.events.normal(&key.cluster, &*cron_job, "SuccessfulCreate", message);
                    Ok(())
                }
                // Made before, by somebody who did not get to write it down.
                Err(error) if error.is_already_exists() => Ok(()),
                Err(error) => {
                    if !error.is_namespace_terminating() {
                        self.events.warning(&key.cluster, &*cron_job, "FailedCreate", format!("Error creating job: {error}"));
                    }
                    Err(error)
                }
            },
            Action::DeleteJob(job) => {
                let name = job.metadata.name.clone().unwrap_or_default();
                let deletion = Deletion { preconditions: Preconditions::uid_of(&job.metadata), propagation: Some("Background"), ..Default::default() };
                match self.jobs.delete(&ObjectKey::of(&key.cluster, &job.metadata), &deletion).await {
                    Ok(()) => {
                        self.events.normal(&key.cluster, &*cron_job, "SuccessfulDelete", format!("Deleted job {name}"));
                        Ok(())
                    }
                    Err(error) => {
                        self.events.warning(&key.cluster, &*cron_job, "FailedDelete", format!("Deleted job: {error}"));
                        Err(error)
                    }
                }
            }
            Action::SetStatus(mut status) => {
                // The Job just made is active from the start.
                let made = self.jobs.by_index(BY_CONTROLLER, &key.cluster, cron_job.metadata.uid.as_deref().unwrap_or_default());
                let active = status.active.get_or_insert_default();
                for job in made.iter().filter(|job| !crate::job::is_finished(job) && job.metadata.deletion_timestamp.is_none()) {
                    if active.iter().all(|reference| reference.uid != job.metadata.uid) {
                        active.push(reconcile::reference(job));
                    }
                }
                if active.is_empty() {
                    status.active = None;
                }
                self.cron_jobs.replace_status(&key.cluster, &CronJob { status: Some(status), ..(*cron_job).clone() }).await?;
                Ok(())
            }
            Action::Tell { warning: true, reason, message } => {
                self.events.warning(&key.cluster, &*cron_job, reason, message);
                Ok(())
            }
            Action::Tell { reason, message, .. } => {
                self.events.normal(&key.cluster, &*cron_job, reason, message);
                Ok(())
            }
        }
    }
}
