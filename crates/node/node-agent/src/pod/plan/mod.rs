//! What to do next for a pod: a pure decision over what is wanted and what runs.
//!
//! The rules are those of the kubelet (`computePodActions`): sandbox first, init containers in order,
//! sidecars gate what follows them, regular containers by restart policy. Actions in flight are part of
//! the world, so that deciding again at any moment repeats nothing.
mod ending;
#[cfg(test)]
mod tests;
mod wanted;

use self::ending::plan_ending;
use self::wanted::{Wanted, want_init_containers, want_regular_containers};
use super::back_off::later;
use super::containers::{self, ContainerKind, ephemeral_containers, is_host_network, spec};
use super::identity::pod_text;
use super::probe_results::ProbeResults;
use super::runtime_state::{ContainerRecord, PodRuntime, RunState};
use super::start_history::{StartHistory, Waiting};
use crate::go_duration::go_duration;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};
use std::collections::BTreeSet;
use std::time::Duration;

/// All that a decision may look at.
#[derive(Debug)]
pub struct World<'a> {
    pub pod: &'a Pod,
    pub now: Timestamp,
    pub runtime: &'a PodRuntime,
    pub probes: &'a ProbeResults,
    pub history: &'a StartHistory,
    pub busy: &'a Busy,
    pub volumes: VolumesState,
    /// The last sandbox could not be made; not before this time again.
    pub sandbox_retry_at: Option<Timestamp>,
    /// Containers killed so that they start again, whatever the restart policy.
    pub to_restart: &'a BTreeSet<String>,
    pub ending: Option<&'a Ending>,
}

/// Actions in flight.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Busy {
    pub volumes: bool,
    /// Creating or stopping a sandbox.
    pub sandbox: bool,
    /// The container being started.
    pub start: Option<String>,
    /// Ids of containers being ended.
    pub kills: BTreeSet<String>,
}

impl Busy {
    fn is_idle(&self) -> bool {
        *self == Self::default()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VolumesState {
    /// The agent just started: they may be mounted from before.
    Unknown,
    Unmounted,
    Mounted,
    /// Not mounted, and not to be tried before this time.
    Failed(Timestamp),
}

/// The pod is to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Overrides the pod's own grace period.
    pub grace: Option<Duration>,
    /// What the status is to say, where the node itself ends the pod.
    pub failure: Option<Waiting>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KillReason {
    PodEnds,
    Changed,
    Liveness,
    Startup,
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    MountVolumes,
    /// Nothing of the pod runs any more: volumes and cgroup can go.
    CleanUp,
    CreateSandbox {
        attempt: u32,
        /// Ids of dead sandboxes that nothing ran in: failed attempts, which hold a network namespace and a name.
        instead_of: Vec<String>,
    },
    StopSandbox {
        id: String,
        /// Another will follow.
        replaced: bool,
    },
    Start {
        container: String,
        kind: ContainerKind,
        restart_count: i32,
    },
    Kill(Kill),
    /// The container waits; its status says why.
    HoldBack {
        container: String,
        waiting: Waiting,
        event: String,
    },
    /// Look again at this time.
    Wake(Timestamp),
}

/// Ending one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kill {
    pub id: String,
    pub container: String,
    pub reason: KillReason,
    /// Of the event.
    pub message: String,
    /// Start it again afterwards, whatever the restart policy.
    pub restart: bool,
    /// From the beginning of its preStop hook to SIGKILL.
    pub grace: Duration,
    /// Ids of containers that end before it.
    pub after: Vec<String>,
}

/// Whether the pod's sandbox serves, or a new one is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SandboxNeed {
    Serves,
    New { attempt: u32 },
}

/// Containers get at least this long to end.
const SHORTEST_GRACE: Duration = Duration::from_secs(2);
const DEFAULT_GRACE_SECONDS: i64 = 30;
/// A failed pull is shown as such for a moment before it is shown as backing off.
const SHOW_PULL_ERROR: Duration = Duration::from_secs(1);

/// Decides. An empty plan means that the pod is as it should be until something changes.
pub fn plan(world: &World<'_>) -> Vec<Action> {
    match world.ending {
        Some(ending) => plan_ending(world, ending),
        None => plan_running(world),
    }
}

/// As upstream's `PodSandboxChanged`.
pub fn sandbox_need(pod: &Pod, runtime: &PodRuntime) -> SandboxNeed {
    let Some(newest) = runtime.sandboxes.first() else { return SandboxNeed::New { attempt: 0 } };
    let changed = runtime.sandboxes.iter().filter(|s| s.ready).count() > 1
        || !newest.ready
        || newest.host_network != is_host_network(pod)
        || (!newest.host_network && newest.addresses.is_empty());
    // The runtime keeps the name of every attempt it has, so a new one must be above them all.
    let highest = runtime.sandboxes.iter().map(|s| s.attempt).max().unwrap_or(newest.attempt);
    if changed { SandboxNeed::New { attempt: highest + 1 } } else { SandboxNeed::Serves }
}

fn plan_running(world: &World<'_>) -> Vec<Action> {
    let mut actions = Vec::new();
    let volumes_ready = match world.volumes {
        VolumesState::Mounted => true,
        _ if world.busy.volumes => false,
        VolumesState::Failed(retry_at) if world.now < retry_at => {
            actions.push(Action::Wake(retry_at));
            false
        }
        _ => {
            actions.push(Action::MountVolumes);
            false
        }
    };
    if let SandboxNeed::New { attempt } = sandbox_need(world.pod, world.runtime) {
        plan_sandbox(world, attempt, volumes_ready, &mut actions);
        return actions;
    }
    let mut wanted = Wanted::default();
    let initialized = want_init_containers(world, &mut wanted);
    if initialized && !wanted.pod_ends {
        want_regular_containers(world, &mut wanted);
    }
    // The pod is done: its phase says so, and whoever sees that ends it.
    if wanted.pod_ends {
        return actions;
    }
    for ephemeral in ephemeral_containers(world.pod) {
        if world.runtime.latest(&ephemeral.name).is_none() {
            wanted.starts.insert(0, ephemeral.name.clone());
        }
    }
    wanted.starts.retain(|name| !wanted.kills.iter().any(|kill| kill.container == *name));
    actions.extend(wanted.kills.into_iter().map(Action::Kill));
    if volumes_ready && world.busy.start.is_none() && !world.busy.sandbox {
        start_first_ready(world, &wanted.starts, &mut actions);
    }
    actions
}

/// The sandbox is missing or dead: end what is left of it, then make one, unless the pod is done anyway.
fn plan_sandbox(world: &World<'_>, attempt: u32, volumes_ready: bool, actions: &mut Vec<Action>) {
    let (pod, runtime) = (world.pod, world.runtime);
    if world.busy.sandbox || world.busy.start.is_some() {
        return;
    }
    let done = |container: &Container| {
        runtime
            .latest(&container.name)
            .is_some_and(|record| record.state == RunState::Exited && !containers::restarts_after(pod, container, ContainerKind::Regular, record.exit_code))
    };
    let any_restarts = containers::restart_policy(pod) != "Never" || spec(pod).containers.iter().any(|c| c.restart_policy.is_some());
    let has_run = !runtime.containers.is_empty();
    let is_over = has_run && (spec(pod).containers.iter().all(done) || (attempt > 0 && !any_restarts));
    let left = runtime.sandboxes.iter().find(|s| s.ready || runtime.containers.iter().any(|c| c.sandbox == s.id && c.state == RunState::Running));
    if let Some(left) = left {
        actions.push(Action::StopSandbox { id: left.id.clone(), replaced: !is_over });
        return;
    }
    if is_over {
        return;
    }
    match world.sandbox_retry_at {
        Some(retry_at) if world.now < retry_at => actions.push(Action::Wake(retry_at)),
        _ if volumes_ready => {
            let unused = runtime.sandboxes.iter().filter(|s| !runtime.containers.iter().any(|c| c.sandbox == s.id));
            actions.push(Action::CreateSandbox { attempt, instead_of: unused.map(|s| s.id.clone()).collect() });
        }
        _ => {}
    }
}

/// Whether a container that does not run is to be started (upstream's `ShouldContainerBeRestarted`).
pub fn should_restart(pod: &Pod, runtime: &PodRuntime, to_restart: &BTreeSet<String>, container: &Container, kind: ContainerKind) -> bool {
    if pod.metadata.deletion_timestamp.is_some() {
        return false;
    }
    match runtime.latest(&container.name) {
        None => true,
        Some(record) => match record.state {
            RunState::Running => false,
            RunState::Created | RunState::Unknown => true,
            RunState::Exited => to_restart.contains(&record.id) || containers::restarts_after(pod, container, kind, record.exit_code),
        },
    }
}

/// Starts the first of these that need not wait. The others follow when it is done, so that postStart hooks keep their order.
fn start_first_ready(world: &World<'_>, names: &[String], actions: &mut Vec<Action>) {
    for name in names {
        let Some((container, kind)) = containers::find(world.pod, name) else { continue };
        let record = world.runtime.latest(name);
        if record.is_some_and(|record| world.busy.kills.contains(&record.id)) {
            continue;
        }
        if let Some(wait) = must_wait(world, &container, record) {
            actions.extend(wait);
            continue;
        }
        actions.push(Action::Start { container: name.clone(), kind, restart_count: next_restart_count(world.pod, name, record) });
        return;
    }
}

/// Why and how long this container waits; `None` if it may start now.
fn must_wait(world: &World<'_>, container: &Container, record: Option<&ContainerRecord>) -> Option<Vec<Action>> {
    let (name, history, now) = (&container.name, world.history, world.now);
    let crashed = record.filter(|r| r.state == RunState::Exited);
    if let Some(crashed) = crashed
        && let Some(back_off) = history.crashes(name, &containers::hash(container))
        && let Some(until) = back_off.until(crashed.finished_at.unwrap_or(crashed.created_at))
        && now < until
    {
        let pod = pod_text(world.pod);
        let message = format!("back-off {} restarting failed container={name} pod={pod}", go_duration(back_off.delay));
        let waiting = Waiting { reason: "CrashLoopBackOff".into(), message };
        let event = format!("Back-off restarting failed container {name} in pod {pod}");
        return Some(hold_back(history, name, waiting, event, until));
    }
    let failure = history.failure(name).filter(|failure| now < failure.retry_at)?;
    let Some((image, pull)) = failure.image.as_ref().and_then(|image| Some((image, history.pull(image)?))) else {
        return Some(vec![Action::Wake(failure.retry_at)]);
    };
    let shown = later(failure.at, SHOW_PULL_ERROR);
    if now < shown {
        return Some(vec![Action::Wake(shown)]);
    }
    let event = format!("Back-off pulling image \"{image}\"");
    let waiting = Waiting { reason: "ImagePullBackOff".into(), message: format!("{event}: {}", pull.error) };
    Some(hold_back(history, name, waiting, event, failure.retry_at))
}

fn hold_back(history: &StartHistory, name: &str, waiting: Waiting, event: String, until: Timestamp) -> Vec<Action> {
    let mut actions = Vec::new();
    if history.waiting(name) != Some(&waiting) {
        actions.push(Action::HoldBack { container: name.into(), waiting, event });
    }
    actions.push(Action::Wake(until));
    actions
}

/// A restart count is that of the record before, plus one; without records, the API's status remembers.
fn next_restart_count(pod: &Pod, name: &str, record: Option<&ContainerRecord>) -> i32 {
    if let Some(record) = record {
        return record.restart_count + 1;
    }
    let status = pod.status.as_ref();
    let lists = status.map(|s| [&s.container_statuses, &s.init_container_statuses, &s.ephemeral_container_statuses]);
    let before = lists.into_iter().flatten().flatten().flatten().find(|s| s.name == name);
    before.map_or(0, |s| s.restart_count + i32::from(s.container_id.as_ref().is_some_and(|id| !id.is_empty())))
}

/// How long a container may take to end (upstream's `setTerminationGracePeriod`).
pub fn grace(pod: &Pod, container: Option<&Container>, reason: KillReason, forced: Option<Duration>) -> Duration {
    let probe = match (reason, container) {
        (KillReason::Liveness, Some(container)) => container.liveness_probe.as_ref(),
        (KillReason::Startup, Some(container)) => container.startup_probe.as_ref(),
        _ => None,
    };
    let of_probe = probe.and_then(|p| p.termination_grace_period_seconds);
    let of_pod = pod.metadata.deletion_grace_period_seconds.or(of_probe).or(spec(pod).termination_grace_period_seconds);
    let seconds = of_pod.unwrap_or(DEFAULT_GRACE_SECONDS);
    forced.unwrap_or_else(|| Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

/// What of the grace is left for the signal itself, after `used` went into hooks and waiting.
pub fn remaining_grace(grace: Duration, used: Duration) -> Duration {
    grace.saturating_sub(used).max(SHORTEST_GRACE)
}
