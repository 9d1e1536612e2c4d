//! A pod's phase, from its containers' statuses (upstream's `getPhase`).
use super::containers::{ContainerKind, init_containers, is_sidecar, restart_policy, restarts_after, spec};
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod};

/// What a status says of a container.
enum Said<'a> {
    Running,
    Terminated(&'a ContainerStateTerminated),
    /// Waiting, after it ran before.
    WaitingAgain(&'a ContainerStateTerminated),
    Waiting,
    Nothing,
}

fn said(status: Option<&ContainerStatus>) -> Said<'_> {
    let Some(state) = status.and_then(|s| s.state.as_ref()) else { return Said::Nothing };
    if state.running.is_some() {
        return Said::Running;
    }
    if let Some(terminated) = &state.terminated {
        return Said::Terminated(terminated);
    }
    match status.and_then(|s| s.last_state.as_ref()).and_then(|l| l.terminated.as_ref()) {
        Some(last) => Said::WaitingAgain(last),
        None if state.waiting.is_some() => Said::Waiting,
        None => Said::Nothing,
    }
}

/// The phase. `ends` is set once the pod can't start containers any more.
pub fn phase(pod: &Pod, init: &[ContainerStatus], regular: &[ContainerStatus], ends: bool) -> &'static str {
    let (mut pending_init, mut pending_sidecars, mut failed_init) = (0, 0, false);
    for container in init_containers(pod) {
        let status = init.iter().find(|s| s.name == container.name);
        if is_sidecar(container) {
            let started = status.is_some_and(|s| s.started == Some(true));
            match said(status) {
                Said::Running if started => {}
                Said::Running | Said::Waiting | Said::Nothing => pending_sidecars += 1,
                Said::Terminated(_) | Said::WaitingAgain(_) => {}
            }
            continue;
        }
        match said(status) {
            Said::Terminated(last) | Said::WaitingAgain(last) if last.exit_code != 0 => {
                failed_init |= !restarts_after(pod, container, ContainerKind::Init, last.exit_code);
                if restarts_after(pod, container, ContainerKind::Init, last.exit_code) {
                    pending_init += 1;
                }
            }
            Said::Terminated(_) => {}
            Said::WaitingAgain(_) | Said::Running | Said::Waiting | Said::Nothing => pending_init += 1,
        }
    }
    let (mut running, mut waiting, mut stopped, mut succeeded, mut unknown, mut restarting) = (0, 0, 0, 0, 0, 0);
    for container in &spec(pod).containers {
        match said(regular.iter().find(|s| s.name == container.name)) {
            Said::Running => running += 1,
            Said::Terminated(last) | Said::WaitingAgain(last) => {
                stopped += 1;
                succeeded += i32::from(last.exit_code == 0);
                restarting += i32::from(restarts_after(pod, container, ContainerKind::Regular, last.exit_code));
            }
            Said::Waiting => waiting += 1,
            Said::Nothing => unknown += 1,
        }
    }
    if failed_init {
        return "Failed";
    }
    let any_regular_started = regular.iter().any(has_started);
    if ((pending_init > 0 || pending_sidecars > 0) && !any_regular_started) || waiting > 0 {
        return "Pending";
    }
    match () {
        () if unknown > 0 => "Pending",
        () if running > 0 => "Running",
        () if stopped == 0 => "Pending",
        () if ends => {
            if stopped == succeeded {
                "Succeeded"
            } else {
                "Failed"
            }
        }
        () if restarting > 0 || restart_policy(pod) == "Always" && stopped == restarting => "Running",
        () if stopped == succeeded => "Succeeded",
        () => "Failed",
    }
}

/// Whether a container runs or has run.
pub fn has_started(status: &ContainerStatus) -> bool {
    status.started == Some(true) || matches!(said(Some(status)), Said::Running | Said::Terminated(_) | Said::WaitingAgain(_))
}
