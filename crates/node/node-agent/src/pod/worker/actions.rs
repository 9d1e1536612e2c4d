//! Carrying out a plan: each action becomes a task whose outcome comes back to the worker.
use super::{Outcome, Worker, mount_key};
use crate::events::EventType;
use crate::pod::addresses::addresses_of;
use crate::pod::containers;
use crate::pod::effects::{clean_up, create_sandbox, kill, remove_sandbox};
use crate::pod::plan::{Action, Kill, VolumesState};
use crate::pod::runtime_state::RunState;
use crate::pod::start::{Start, container_of};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

impl Worker {
    pub(super) fn carry_out(&mut self, action: Action, now: Timestamp) {
        let (context, id, pod) = (self.context.clone(), self.id.clone(), self.pod.clone());
        match action {
            Action::Wake(at) => self.wake(at),
            Action::MountVolumes => {
                self.busy.volumes = true;
                self.mounted_for = Some(mount_key(&pod));
                self.operations.spawn(async move { Outcome::Volumes(context.make_ready(&id, &pod).await) });
            }
            Action::CleanUp => {
                self.busy.volumes = true;
                self.operations.spawn(async move { Outcome::CleanedUp(clean_up(&context, &id, &pod).await) });
            }
            Action::CreateSandbox { attempt, instead_of } => {
                self.busy.sandbox = true;
                let owner = self.messages.clone();
                self.operations.spawn(async move {
                    for sandbox in instead_of {
                        // One that can't be removed yet has an attempt of its own, and is not in the way.
                        if remove_sandbox(&context, &sandbox).await {
                            context.table.disown(&sandbox);
                        }
                    }
                    Outcome::Sandbox(create_sandbox(&context, &id, &pod, attempt, &owner).await)
                });
            }
            Action::StopSandbox { id: sandbox, replaced } => {
                self.busy.sandbox = true;
                if replaced {
                    self.event(EventType::Normal, "SandboxChanged", "Pod sandbox changed, it will be killed and re-created.".into());
                }
                self.operations.spawn(async move { Outcome::SandboxStopped(context.runtime.stop_pod_sandbox(&sandbox).await) });
            }
            Action::HoldBack { container, waiting, event } => {
                self.history.set_waiting(&container, waiting);
                let type_ = if event.starts_with("Back-off pulling") { EventType::Normal } else { EventType::Warning };
                self.context.events.container(&self.id.cluster, &self.pod, &container, type_, "BackOff", event);
                // The status written below shows it.
            }
            Action::Start { container: name, kind: _, restart_count } => {
                let Some(container) = container_of(&pod, &name) else { return };
                let crashed = self.runtime.latest(&name).filter(|r| r.state == RunState::Exited).map(|r| r.finished_at.unwrap_or(r.created_at));
                if let Some(crashed) = crashed {
                    self.history.restarting(&name, &containers::hash(&container), crashed, now);
                }
                self.busy.start = Some(name.clone());
                self.start_cancelled = CancellationToken::new();
                let start = Start {
                    context,
                    id,
                    pod,
                    container,
                    restart_count,
                    runtime: self.runtime.clone(),
                    volumes: self.mounted.clone(),
                    owner: self.messages.clone(),
                    cancelled: self.start_cancelled.clone(),
                };
                self.operations.spawn(async move { Outcome::Started { container: name, result: start.run().await } });
            }
            Action::Kill(what) => self.carry_out_kill(what),
        }
    }

    pub(super) fn carry_out_kill(&mut self, what: Kill) {
        let container = what.id.clone();
        self.busy.kills.insert(container.clone());
        if what.restart {
            self.to_restart.insert(container.clone());
        }
        // A container that is being ended is not probed.
        self.probers.retain(|(id, _), prober| {
            if *id == container {
                prober.abort();
            }
            *id != container
        });
        let work = kill(self.context.clone(), self.id.clone(), self.pod.clone(), self.address(), what, self.running.subscribe());
        let killed = container.clone();
        let task = self.operations.spawn(async move { Outcome::Killed { id: killed, result: work.await } });
        self.kills.insert(container, task);
    }

    /// The pod's address, the node's in its network.
    pub(super) fn address(&self) -> String {
        addresses_of(&self.pod, self.runtime.sandbox(), &self.context.host_ips()).into_iter().next().unwrap_or_default()
    }

    /// Volumes that show the pod's labels and annotations follow them.
    pub(super) fn remount_if_changed(&mut self) {
        let key = mount_key(&self.pod);
        if self.volumes == VolumesState::Mounted && !self.busy.volumes && self.ending.is_none() && self.mounted_for.as_ref() != Some(&key) {
            self.carry_out(Action::MountVolumes, self.context.clock.now());
        }
    }
}
