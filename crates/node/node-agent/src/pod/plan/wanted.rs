//! Which containers are to be started and which ended, while the pod lives.
use super::{Kill, KillReason, World, grace, should_restart};
use crate::pod::containers::{self, ContainerKind, init_containers, is_sidecar, spec};
use crate::pod::probe_results::ProbeKind;
use crate::pod::runtime_state::{ContainerRecord, RunState};
use k8s_openapi::api::core::v1::Container;

/// What the containers need.
#[derive(Default)]
pub(super) struct Wanted {
    /// In order.
    pub starts: Vec<String>,
    pub kills: Vec<Kill>,
    /// Nothing is left to run: the phase says how it went.
    pub pod_ends: bool,
}

/// As upstream's `computeInitContainerActions`; returns whether the pod is initialized.
pub(super) fn want_init_containers(world: &World<'_>, wanted: &mut Wanted) -> bool {
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

/// As the loop over regular containers of upstream's `computePodActions`.
pub(super) fn want_regular_containers(world: &World<'_>, wanted: &mut Wanted) {
    let (pod, runtime) = (world.pod, world.runtime);
    let mut kept = false;
    let sidecar_starts = std::mem::take(&mut wanted.starts);
    for container in &spec(pod).containers {
        let record = runtime.latest(&container.name);
        let Some(record) = record.filter(|record| record.state == RunState::Running) else {
            if should_restart(world.pod, world.runtime, world.to_restart, container, ContainerKind::Regular) {
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
