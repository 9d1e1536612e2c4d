//! What to do next for a pod: a pure decision over what is wanted and what runs.
//!
//! The rules are those of the kubelet (`computePodActions`): sandbox first, init containers in order,
//! sidecars gate what follows them, regular containers by restart policy. Actions in flight are part of
//! the world, so that deciding again at any moment repeats nothing.
use super::back_off::later;
use super::containers::{self, ContainerKind, ephemeral_containers, init_containers, is_host_network, is_sidecar, spec};
use super::identity::pod_text;
use super::probe_results::{ProbeKind, ProbeResults};
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
    if changed { SandboxNeed::New { attempt: newest.attempt + 1 } } else { SandboxNeed::Serves }
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
        _ if volumes_ready => actions.push(Action::CreateSandbox { attempt }),
        _ => {}
    }
}

#[derive(Default)]
struct Wanted {
    /// In order.
    starts: Vec<String>,
    kills: Vec<Kill>,
    pod_ends: bool,
}

/// As upstream's `computeInitContainerActions`; returns whether the pod is initialized.
fn want_init_containers(world: &World<'_>, wanted: &mut Wanted) -> bool {
    let (pod, runtime) = (world.pod, world.runtime);
    let all = init_containers(pod);
    if all.is_empty() {
        return true;
    }
    let sandbox = runtime.sandbox().map(|s| s.id.as_str()).unwrap_or_default();
    // Records of an earlier sandbox say nothing about this one.
    let latest = |name: &str| runtime.latest(name).filter(|record| record.sandbox == sandbox);
    // A regular container of this sandbox proves that initialization is over, even if its records are gone.
    let mut initialized = spec(pod).containers.iter().any(|c| latest(&c.name).is_some());
    let mut earlier_are_done = initialized;
    for (at, container) in all.iter().enumerate().rev() {
        let sidecar = is_sidecar(container);
        let Some(record) = latest(&container.name) else {
            if earlier_are_done && sidecar {
                wanted.starts.insert(0, container.name.clone());
            }
            continue;
        };
        if earlier_are_done && !sidecar {
            continue;
        }
        let mut next = |wanted: &mut Wanted| match all.get(at + 1) {
            Some(next) => wanted.starts.insert(0, next.name.clone()),
            None => initialized = true,
        };
        match record.state {
            // Left by an agent that was killed before it started it.
            RunState::Created if world.busy.start.is_none() => wanted.starts.insert(0, container.name.clone()),
            RunState::Created => {}
            RunState::Running if !sidecar => {}
            RunState::Running => {
                let startup = container.startup_probe.as_ref().map(|_| world.probes.get(&record.id, ProbeKind::Startup));
                match startup {
                    Some(None) => {}
                    Some(Some(false)) => wanted.kill(world, container, record, KillReason::Startup, true),
                    None | Some(Some(true)) => {
                        if !earlier_are_done {
                            next(wanted);
                        }
                        if world.probes.get(&record.id, ProbeKind::Liveness) == Some(false) {
                            wanted.kill(world, container, record, KillReason::Liveness, true);
                        } else if containers::hash(container) != record.hash {
                            wanted.kill(world, container, record, KillReason::Changed, true);
                        }
                    }
                }
            }
            RunState::Exited if sidecar => wanted.starts.insert(0, container.name.clone()),
            RunState::Exited if record.exit_code == 0 => next(wanted),
            RunState::Exited => {
                if containers::restarts_after(pod, container, ContainerKind::Init, record.exit_code) {
                    wanted.starts.insert(0, container.name.clone());
                } else {
                    wanted.pod_ends = true;
                    return false;
                }
            }
            RunState::Unknown => wanted.kill(world, container, record, KillReason::Unknown, true),
        }
        earlier_are_done = true;
    }
    if !earlier_are_done {
        wanted.starts.push(all[0].name.clone());
    }
    initialized
}

fn want_regular_containers(world: &World<'_>, wanted: &mut Wanted) {
    let (pod, runtime) = (world.pod, world.runtime);
    let mut kept = false;
    let sidecar_starts = std::mem::take(&mut wanted.starts);
    for container in &spec(pod).containers {
        let record = runtime.latest(&container.name);
        let Some(record) = record.filter(|record| record.state == RunState::Running) else {
            if should_start(world, container, ContainerKind::Regular) {
                wanted.starts.push(container.name.clone());
                if let Some(record) = record.filter(|r| r.state == RunState::Unknown) {
                    wanted.kill(world, container, record, KillReason::Unknown, true);
                }
            }
            continue;
        };
        // What is being ended is decided already.
        if world.busy.kills.contains(&record.id) {
            kept = true;
            continue;
        }
        let restarts = containers::restart_policy(pod) != "Never" || container.restart_policy.as_deref().is_some_and(|policy| policy != "Never");
        if containers::hash(container) != record.hash {
            wanted.kill(world, container, record, KillReason::Changed, true);
        } else if world.probes.get(&record.id, ProbeKind::Liveness) == Some(false) {
            wanted.kill(world, container, record, KillReason::Liveness, restarts);
        } else if world.probes.get(&record.id, ProbeKind::Startup) == Some(false) {
            wanted.kill(world, container, record, KillReason::Startup, restarts);
        }
        kept = true;
    }
    if !kept && wanted.starts.is_empty() {
        // Sidecars alone don't keep a pod alive.
        wanted.pod_ends = true;
        return;
    }
    wanted.starts.splice(0..0, sidecar_starts);
}

impl Wanted {
    fn kill(&mut self, world: &World<'_>, container: &Container, record: &ContainerRecord, reason: KillReason, restart: bool) {
        if world.busy.kills.contains(&record.id) {
            return;
        }
        let (kind, name) = (if init_containers(world.pod).iter().any(|c| c.name == container.name) { "Init container" } else { "Container" }, &container.name);
        let message = match reason {
            KillReason::Changed => format!("{kind} {name} definition changed"),
            KillReason::Liveness => format!("{kind} {name} failed liveness probe"),
            KillReason::Startup => format!("{kind} {name} failed startup probe"),
            KillReason::Unknown => format!("{kind} is in \"unknown\" state, try killing it before restart"),
            KillReason::PodEnds => format!("Stopping container {name}"),
        };
        let message = if restart && reason != KillReason::Unknown { format!("{message}, will be restarted") } else { message };
        let grace = grace(world.pod, Some(container), reason, None);
        self.kills.push(Kill { id: record.id.clone(), container: name.clone(), reason, message, restart, grace, after: Vec::new() });
    }
}

/// Whether a container that does not run is to be started (upstream's `ShouldContainerBeRestarted`).
pub fn should_start(world: &World<'_>, container: &Container, kind: ContainerKind) -> bool {
    should_restart(world.pod, world.runtime, world.to_restart, container, kind)
}

/// As `should_start`, without the whole world.
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

fn plan_ending(world: &World<'_>, ending: &Ending) -> Vec<Action> {
    let (pod, runtime, busy) = (world.pod, world.runtime, world.busy);
    let mut actions = Vec::new();
    let alive = || runtime.containers.iter().filter(|c| matches!(c.state, RunState::Running | RunState::Unknown));
    let sidecars: Vec<&Container> = init_containers(pod).iter().filter(|c| is_sidecar(c)).collect();
    // Sidecars outlive the other containers and each other, in the reverse order of their start.
    let mut earlier: Vec<String> = alive().filter(|c| !sidecars.iter().any(|s| s.name == c.name)).map(|c| c.id.clone()).collect();
    let mut order: Vec<(String, Vec<String>)> = earlier.iter().map(|id| (id.clone(), Vec::new())).collect();
    for sidecar in sidecars.iter().rev() {
        let ids: Vec<String> = alive().filter(|c| c.name == sidecar.name).map(|c| c.id.clone()).collect();
        order.extend(ids.iter().map(|id| (id.clone(), earlier.clone())));
        earlier.extend(ids);
    }
    for (id, after) in order {
        if busy.kills.contains(&id) {
            continue;
        }
        let Some(record) = runtime.container(&id) else { continue };
        let container = containers::find(pod, &record.name).map(|(container, _)| container.into_owned());
        let grace = grace(pod, container.as_ref(), KillReason::PodEnds, ending.grace);
        let message = format!("Stopping container {}", record.name);
        actions.push(Action::Kill(Kill { id, container: record.name.clone(), reason: KillReason::PodEnds, message, restart: false, grace, after }));
    }
    if !actions.is_empty() || !busy.is_idle() {
        return actions;
    }
    actions.extend(runtime.sandboxes.iter().filter(|s| s.ready).map(|s| Action::StopSandbox { id: s.id.clone(), replaced: false }));
    if actions.is_empty() && world.volumes != VolumesState::Unmounted {
        actions.push(Action::CleanUp);
    }
    actions
}

/// What of the grace is left for the signal itself, after `used` went into hooks and waiting.
pub fn remaining_grace(grace: Duration, used: Duration) -> Duration {
    grace.saturating_sub(used).max(SHORTEST_GRACE)
}
