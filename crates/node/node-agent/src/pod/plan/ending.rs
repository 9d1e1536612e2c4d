//! Ending a pod: containers in their order, then sandboxes, then what the pod holds.
use super::{Action, Ending, Kill, KillReason, VolumesState, World, grace};
use crate::pod::containers::{self, init_containers, is_sidecar};
use crate::pod::runtime_state::RunState;
use k8s_openapi::api::core::v1::Container;

/// The next steps of ending.
pub(super) fn plan_ending(world: &World<'_>, ending: &Ending) -> Vec<Action> {
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
