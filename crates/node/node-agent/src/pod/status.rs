//! A pod's status, from what the runtime has and the node knows: pure, as the kubelet computes it.
use super::addresses::addresses_of;
use super::conditions::conditions;
use super::containers::{self, ContainerKind, ephemeral_containers, init_containers, is_host_network, is_sidecar, spec};
use super::phase::phase;
use super::plan::{Ending, SandboxNeed, sandbox_need, should_restart};
use super::probe_results::ProbeResults;
use super::runtime_state::{ContainerRecord, PodRuntime, RunState};
use super::start_history::StartHistory;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus, ContainerUser, HostIP,
    LinuxContainerUser, Pod, PodIP, PodStatus, VolumeMountStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::collections::BTreeSet;

/// All that a status follows from.
#[derive(Debug)]
pub struct Observed<'a> {
    pub pod: &'a Pod,
    /// The status the API has.
    pub old: &'a PodStatus,
    pub runtime: &'a PodRuntime,
    pub probes: &'a ProbeResults,
    pub history: &'a StartHistory,
    pub to_restart: &'a BTreeSet<String>,
    pub ending: Option<&'a Ending>,
    /// The pod ended and nothing of it can run any more.
    pub finished: bool,
    /// The node's addresses, primary first.
    pub host_ips: &'a [String],
    pub now: Timestamp,
}

/// The status to write.
pub fn status(observed: &Observed<'_>) -> PodStatus {
    let (pod, old) = (observed.pod, observed.old);
    let (mut init, mut regular) = (init_statuses(observed), regular_statuses(observed));
    let ephemeral: Vec<ContainerStatus> = ephemeral_containers(pod)
        .iter()
        .map(|c| container_status(observed, &containers::as_container(c), ContainerKind::Ephemeral, old.ephemeral_container_statuses.as_deref()))
        .collect();
    let mut phase = phase_of(observed, &init, &regular).to_owned();
    let (mut reason, mut message) = (None, None);
    let old_phase = old.phase.clone().unwrap_or_else(|| "Pending".into());
    if let Some(failure) = observed.ending.and_then(|ending| ending.failure.as_ref()) {
        phase = "Failed".into();
        reason = Some(failure.reason.clone());
        message = Some(failure.message.clone());
    }
    // A pod never comes back from a terminal phase.
    if is_terminal(&old_phase) {
        (phase, reason, message) = (old_phase.clone(), old.reason.clone(), old.message.clone());
    }
    if observed.finished {
        finalize(&mut phase, &mut init, &mut regular);
    } else if is_terminal(&phase) && !is_terminal(&old_phase) && observed.runtime.may_run() {
        // What it holds is still in use: others may only rely on a terminal phase once nothing runs.
        (phase, reason, message) = (old_phase, old.reason.clone(), old.message.clone());
    }
    let sandbox_serves = sandbox_need(pod, observed.runtime) == SandboxNeed::Serves;
    let conditions = conditions(pod, old, &phase, &init, &regular, sandbox_serves, observed.now);
    let (pod_ip, pod_ips) = addresses(observed);
    // A pod that the node refused never had containers.
    let refused = observed.ending.is_some_and(|ending| ending.failure.is_some()) && observed.runtime.is_empty() && old.container_statuses.is_none();
    let list = |statuses: Vec<ContainerStatus>| (!statuses.is_empty() && !refused).then_some(statuses);
    PodStatus {
        phase: Some(phase),
        reason,
        message,
        conditions: Some(conditions),
        container_statuses: list(regular),
        init_container_statuses: list(init),
        ephemeral_container_statuses: list(ephemeral),
        host_ip: observed.host_ips.first().cloned(),
        host_ips: Some(observed.host_ips.iter().map(|ip| HostIP { ip: ip.clone() }).collect()),
        pod_ip,
        pod_ips,
        start_time: old.start_time.clone().or(Some(Time(observed.now))),
        qos_class: old.qos_class.clone().or_else(|| Some(super::resources::qos_class(pod).into())),
        observed_generation: pod.metadata.generation,
        // Set by others.
        nominated_node_name: old.nominated_node_name.clone(),
        resize: old.resize.clone(),
        resource_claim_statuses: old.resource_claim_statuses.clone(),
        extended_resource_claim_status: old.extended_resource_claim_status.clone(),
        node_allocatable_resource_claim_statuses: old.node_allocatable_resource_claim_statuses.clone(),
        allocated_resources: old.allocated_resources.clone(),
        resources: old.resources.clone(),
        volume_health: old.volume_health.clone(),
    }
}

pub fn is_terminal(phase: &str) -> bool {
    matches!(phase, "Succeeded" | "Failed")
}

/// Whether the pod is to end because its containers did for good: what still runs of it, its sidecars, has
/// nobody left to serve. The status shows the terminal phase only once they have ended too.
pub fn is_over(observed: &Observed<'_>) -> bool {
    observed.old.phase.as_deref().is_some_and(is_terminal) || is_terminal(phase_of(observed, &init_statuses(observed), &regular_statuses(observed)))
}

fn phase_of(observed: &Observed<'_>, init: &[ContainerStatus], regular: &[ContainerStatus]) -> &'static str {
    let ends = observed.ending.is_some() || observed.pod.metadata.deletion_timestamp.is_some();
    phase(observed.pod, init, regular, ends)
}

fn regular_statuses(observed: &Observed<'_>) -> Vec<ContainerStatus> {
    let before = observed.old.container_statuses.as_deref();
    let mut regular: Vec<ContainerStatus> =
        spec(observed.pod).containers.iter().map(|c| container_status(observed, c, ContainerKind::Regular, before)).collect();
    // Clients rely on an order; upstream's is by name.
    regular.sort_by(|a, b| a.name.cmp(&b.name));
    regular
}

fn init_statuses(observed: &Observed<'_>) -> Vec<ContainerStatus> {
    let before = observed.old.init_container_statuses.as_deref();
    let kind = |c: &Container| if is_sidecar(c) { ContainerKind::Sidecar } else { ContainerKind::Init };
    init_containers(observed.pod).iter().map(|c| container_status(observed, c, kind(c), before)).collect()
}

fn addresses(observed: &Observed<'_>) -> (Option<String>, Option<Vec<PodIP>>) {
    let sandbox = if is_host_network(observed.pod) { observed.runtime.sandbox() } else { observed.runtime.sandboxes.first() };
    let own = sandbox.map(|sandbox| addresses_of(observed.pod, Some(sandbox), observed.host_ips)).unwrap_or_default();
    if own.is_empty() {
        // The sandbox is gone or being replaced: what was said last stays.
        return (observed.old.pod_ip.clone(), observed.old.pod_ips.clone());
    }
    (own.first().cloned(), Some(own.into_iter().map(|ip| PodIP { ip }).collect()))
}

/// Nothing of the pod runs, and it is to have a terminal phase (upstream's `TerminatePod`).
fn finalize(phase: &mut String, init: &mut [ContainerStatus], regular: &mut [ContainerStatus]) {
    let unknown = || ContainerStateTerminated {
        reason: Some("ContainerStatusUnknown".into()),
        message: Some("The container could not be located when the pod was terminated".into()),
        exit_code: 137,
        ..Default::default()
    };
    let settle = |status: &mut ContainerStatus| {
        let state = status.state.get_or_insert_default();
        if state.terminated.is_none() {
            *state = ContainerState { terminated: Some(unknown()), ..Default::default() };
        }
        status.ready &= status.state.as_ref().is_some_and(|s| s.terminated.as_ref().is_some_and(|t| t.exit_code == 0));
        status.started = Some(false);
    };
    // Containers that could not have started yet were not lost.
    let last_begun = init.iter().rposition(super::phase::has_started);
    let succeeded = |s: &ContainerStatus| [&s.state, &s.last_state].into_iter().flatten().any(|s| s.terminated.as_ref().is_some_and(|t| t.exit_code == 0));
    let initialized = init.last().is_none_or(|last| last.ready || succeeded(last)) || regular.iter().any(super::phase::has_started);
    if initialized {
        regular.iter_mut().for_each(settle);
    }
    if let Some(last) = last_begun {
        init[..=last].iter_mut().for_each(settle);
    }
    if !is_terminal(phase) {
        *phase = "Failed".into();
    }
}

fn container_status(observed: &Observed<'_>, container: &Container, kind: ContainerKind, before: Option<&[ContainerStatus]>) -> ContainerStatus {
    let (pod, runtime) = (observed.pod, observed.runtime);
    let old = before.unwrap_or_default().iter().find(|s| s.name == container.name);
    let mut records = runtime.containers.iter().filter(|c| c.name == container.name);
    let (latest, previous) = (records.next(), records.next());
    let mut status = match latest {
        Some(record) => of_record(container, record, previous, old),
        None => without_record(observed, container, kind, old),
    };
    // A container about to be started again is waiting, and says why where that is known.
    let succeeded_init = kind == ContainerKind::Init && latest.is_some_and(|r| r.state == RunState::Exited && r.exit_code == 0);
    let may_start = if kind == ContainerKind::Ephemeral { latest.is_none() } else { !succeeded_init };
    if may_start
        && should_restart(pod, runtime, observed.to_restart, container, kind)
        && observed.ending.is_none()
        && let Some(waiting) = observed.history.waiting(&container.name)
    {
        let state = ContainerState {
            waiting: Some(ContainerStateWaiting {
                reason: Some(waiting.reason.clone()),
                message: Some(waiting.message.clone()).filter(|message| !message.is_empty()),
            }),
            ..Default::default()
        };
        let shown = status.state.replace(state);
        if let Some(terminated) = shown.and_then(|s| s.terminated) {
            status.last_state = Some(ContainerState { terminated: Some(terminated), ..Default::default() });
        }
    }
    let running = latest.filter(|r| r.state == RunState::Running && status.state.as_ref().is_some_and(|s| s.running.is_some()));
    if kind == ContainerKind::Ephemeral {
        status.ready = false;
        return status;
    }
    status.started = Some(running.is_some_and(|r| observed.probes.has_started(container, &r.id)));
    status.ready = match kind {
        ContainerKind::Init => status.state.as_ref().and_then(|s| s.terminated.as_ref()).is_some_and(|t| t.exit_code == 0),
        _ => running.is_some_and(|r| observed.probes.is_ready(container, &r.id)),
    };
    status
}

fn of_record(container: &Container, record: &ContainerRecord, previous: Option<&ContainerRecord>, old: Option<&ContainerStatus>) -> ContainerStatus {
    let state = state_of(record);
    let last_state = match previous {
        Some(previous) => Some(state_of(previous)).filter(|s| s.terminated.is_some()),
        // The record before was cleaned away: its end is still worth knowing.
        None => old.filter(|o| o.restart_count == record.restart_count).and_then(|o| o.last_state.clone()),
    };
    let has_resources = container.resources.as_ref().is_some_and(|r| r.limits.is_some() || r.requests.is_some());
    ContainerStatus {
        name: container.name.clone(),
        image: record.image.clone(),
        image_id: record.image_id.clone(),
        container_id: Some(container_id(&record.id)),
        restart_count: record.restart_count,
        state: Some(state),
        last_state: Some(last_state.unwrap_or_default()),
        allocated_resources: container.resources.as_ref().and_then(|r| r.requests.clone()),
        resources: has_resources.then(|| container.resources.clone()).flatten().or_else(|| Some(Default::default())),
        volume_mounts: container.volume_mounts.as_ref().map(|mounts| {
            let one = |mount: &k8s_openapi::api::core::v1::VolumeMount| VolumeMountStatus {
                name: mount.name.clone(),
                mount_path: mount.mount_path.clone(),
                read_only: mount.read_only.filter(|read_only| *read_only),
                recursive_read_only: (mount.read_only == Some(true)).then(|| "Disabled".into()),
                ..Default::default()
            };
            mounts.iter().map(one).collect()
        }),
        user: record.user.as_ref().map(|(uid, gid, groups)| ContainerUser {
            linux: Some(LinuxContainerUser { uid: *uid, gid: *gid, supplemental_groups: Some(groups.clone()).filter(|g| !g.is_empty()) }),
        }),
        ..Default::default()
    }
}

fn without_record(observed: &Observed<'_>, container: &Container, kind: ContainerKind, old: Option<&ContainerStatus>) -> ContainerStatus {
    // A finished init container stays finished, even when its record is cleaned away.
    if let Some(old) = old
        && (kind == ContainerKind::Init || observed.ending.is_some())
        && old.state.as_ref().is_some_and(|s| s.terminated.is_some())
    {
        return old.clone();
    }
    let reason = if init_containers(observed.pod).is_empty() || kind == ContainerKind::Ephemeral { "ContainerCreating" } else { "PodInitializing" };
    let mut status = ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        state: Some(ContainerState { waiting: Some(ContainerStateWaiting { reason: Some(reason.into()), message: None }), ..Default::default() }),
        last_state: Some(ContainerState::default()),
        ..Default::default()
    };
    let Some(old) = old else { return status };
    status.restart_count = old.restart_count;
    status.last_state = old.last_state.clone().or(Some(ContainerState::default()));
    let ran = old.state.as_ref().is_some_and(|s| s.running.is_some());
    if ran && status.last_state.as_ref().is_none_or(|s| s.terminated.is_none()) {
        // It ran, and the runtime has lost it.
        status.last_state = Some(ContainerState {
            terminated: Some(ContainerStateTerminated {
                reason: Some("ContainerStatusUnknown".into()),
                message: Some("The container could not be located when the pod was deleted.  The container used to be Running".into()),
                exit_code: 137,
                ..Default::default()
            }),
            ..Default::default()
        });
        if observed.pod.metadata.deletion_timestamp.is_none() {
            status.restart_count += 1;
        }
    }
    status
}

fn state_of(record: &ContainerRecord) -> ContainerState {
    match record.state {
        RunState::Running => ContainerState { running: Some(ContainerStateRunning { started_at: record.started_at.map(Time) }), ..Default::default() },
        RunState::Exited => ContainerState {
            terminated: Some(ContainerStateTerminated {
                exit_code: record.exit_code,
                reason: Some(record.reason.clone()).filter(|reason| !reason.is_empty()),
                message: Some(record.message.clone()).filter(|message| !message.is_empty()),
                started_at: Some(Time(record.started_at.unwrap_or(Timestamp::UNIX_EPOCH))),
                finished_at: Some(Time(record.finished_at.unwrap_or(Timestamp::UNIX_EPOCH))),
                container_id: Some(container_id(&record.id)),
                signal: None,
            }),
            ..Default::default()
        },
        RunState::Created | RunState::Unknown => ContainerState { waiting: Some(ContainerStateWaiting::default()), ..Default::default() },
    }
}

/// A container's id as the API writes it.
pub fn container_id(id: &str) -> String {
    format!("containerd://{id}")
}
