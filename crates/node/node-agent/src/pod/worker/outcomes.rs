//! What actions came to: the worker's memory after each.
use super::{CONFLICT_RETRY, LONGEST_RETRY, Outcome, RETRY, Worker, version_of};
use crate::events::EventType;
use crate::pod::back_off::later;
use crate::pod::plan::VolumesState;
use crate::pod::start::prune;
use crate::pod::start_history::Waiting;
use std::sync::Arc;

impl Worker {
    pub(super) fn take_outcome(&mut self, outcome: Outcome) {
        let now = self.context.clock.now();
        let backoff = |tries: u32| later(now, RETRY.saturating_mul(1 << tries.min(10)).min(LONGEST_RETRY));
        self.stale = true;
        match outcome {
            Outcome::Volumes(result) => {
                self.busy.volumes = false;
                match result {
                    Ok(mounted) => {
                        self.mounted = Arc::new(mounted);
                        self.volumes = VolumesState::Mounted;
                        self.volume_tries = 0;
                    }
                    Err(error) => {
                        self.event(EventType::Warning, error.reason, error.message);
                        self.volumes = VolumesState::Failed(backoff(self.volume_tries));
                        self.volume_tries += 1;
                    }
                }
            }
            Outcome::Sandbox(result) => {
                self.busy.sandbox = false;
                match result {
                    Ok(_) => (self.sandbox_tries, self.sandbox_retry_at) = (0, None),
                    Err(error) => {
                        self.event(EventType::Warning, "FailedCreatePodSandBox", format!("Failed to create pod sandbox: {error}"));
                        self.sandbox_retry_at = Some(backoff(self.sandbox_tries));
                        self.sandbox_tries += 1;
                    }
                }
            }
            Outcome::SandboxStopped(result) => {
                self.busy.sandbox = false;
                if let Err(error) = result {
                    self.event(EventType::Warning, "FailedKillPod", format!("error killing pod: {error}"));
                    self.wake_in(RETRY);
                }
            }
            Outcome::Started { container, result } => {
                self.busy.start = None;
                match result {
                    Some(Ok(_)) => {
                        self.history.started(&container);
                        self.prune(container);
                    }
                    Some(Err(error)) => {
                        let waiting = Waiting { reason: error.reason, message: error.message };
                        if error.crashed {
                            // The back-off of crashes applies, since there is a container that ended.
                            self.history.set_waiting(&container, waiting);
                            self.prune(container);
                        } else {
                            self.history.failed(&container, waiting, error.image, now);
                        }
                    }
                    None => {}
                }
            }
            Outcome::Killed { id, result } => {
                self.busy.kills.remove(&id);
                self.kills.remove(&id);
                match result {
                    Ok(()) => {
                        self.exits.insert(id, 0);
                    }
                    Err(error) => {
                        self.to_restart.remove(&id);
                        self.event(EventType::Warning, "FailedKillPod", format!("error killing pod: failed to kill container: {error}"));
                        self.wake_in(RETRY);
                    }
                }
            }
            Outcome::CleanedUp(result) => {
                self.busy.volumes = false;
                match result {
                    Ok(()) => self.volumes = VolumesState::Unmounted,
                    Err(error) => {
                        tracing::warn!(pod = %self.id, error, "a pod's volumes or devices can't be taken down yet");
                        self.wake_in(RETRY);
                    }
                }
            }
            Outcome::Written(result) => {
                self.writing = false;
                match *result {
                    Ok(pod) => {
                        let version = version_of(&pod);
                        if version >= self.known_version {
                            self.known_version = version;
                            self.known = pod.status.unwrap_or_default();
                        }
                    }
                    // Others wrote at the same moment, or another pod has the name, of which the cache will tell.
                    Err(error) if api_client::is_conflict(&error) => self.write_again_at = Some(later(now, CONFLICT_RETRY)),
                    // Deleted: the cache will tell.
                    Err(error) if api_client::is_not_found(&error) => self.write_again_at = Some(later(now, RETRY)),
                    Err(error) => {
                        tracing::warn!(pod = %self.id, %error, "a pod's status can't be written");
                        self.write_again_at = Some(later(now, RETRY));
                    }
                }
            }
            Outcome::Deleted(result) => {
                if let Err(error) = result
                    && !api_client::is_not_found(&error)
                    && !api_client::is_conflict(&error)
                {
                    tracing::warn!(pod = %self.id, %error, "a pod that ended can't be deleted");
                    self.deleting = false;
                    self.wake_in(RETRY);
                }
            }
            Outcome::Pruned => {}
        }
    }

    /// Takes away what the attempt that was just made supersedes.
    pub(super) fn prune(&mut self, container: String) {
        let (context, runtime) = (self.context.clone(), self.runtime.clone());
        self.operations.spawn(async move {
            prune(&context, &runtime, &container).await;
            Outcome::Pruned
        });
    }
}
