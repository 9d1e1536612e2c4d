//! A pod's containers of all kinds, under one roof.
use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod, PodSpec};
use std::borrow::Cow;

/// What a container is to its pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContainerKind {
    /// Runs to its end before the next is started.
    Init,
    /// An init container with restartPolicy Always: started in turn, runs beside the others.
    Sidecar,
    Regular,
    /// Added to a running pod (`kubectl debug`), never restarted.
    Ephemeral,
}

static NO_SPEC: std::sync::LazyLock<PodSpec> = std::sync::LazyLock::new(PodSpec::default);

/// A pod's spec; the empty one if it has none.
pub fn spec(pod: &Pod) -> &PodSpec {
    pod.spec.as_ref().unwrap_or(&NO_SPEC)
}

pub fn init_containers(pod: &Pod) -> &[Container] {
    spec(pod).init_containers.as_deref().unwrap_or_default()
}

pub fn ephemeral_containers(pod: &Pod) -> &[EphemeralContainer] {
    spec(pod).ephemeral_containers.as_deref().unwrap_or_default()
}

pub fn is_sidecar(init_container: &Container) -> bool {
    init_container.restart_policy.as_deref() == Some("Always")
}

/// A container by name, with what it is.
pub fn find<'a>(pod: &'a Pod, name: &str) -> Option<(Cow<'a, Container>, ContainerKind)> {
    if let Some(container) = spec(pod).containers.iter().find(|c| c.name == name) {
        return Some((Cow::Borrowed(container), ContainerKind::Regular));
    }
    if let Some(container) = init_containers(pod).iter().find(|c| c.name == name) {
        return Some((Cow::Borrowed(container), if is_sidecar(container) { ContainerKind::Sidecar } else { ContainerKind::Init }));
    }
    let ephemeral = ephemeral_containers(pod).iter().find(|c| c.name == name)?;
    Some((Cow::Owned(as_container(ephemeral)), ContainerKind::Ephemeral))
}

/// An ephemeral container as the container it is but for its target.
pub fn as_container(ephemeral: &EphemeralContainer) -> Container {
    let from = ephemeral.clone();
    Container {
        args: from.args,
        command: from.command,
        env: from.env,
        env_from: from.env_from,
        image: from.image,
        image_pull_policy: from.image_pull_policy,
        lifecycle: from.lifecycle,
        liveness_probe: from.liveness_probe,
        name: from.name,
        ports: from.ports,
        readiness_probe: from.readiness_probe,
        resize_policy: from.resize_policy,
        resources: from.resources,
        restart_policy: from.restart_policy,
        restart_policy_rules: from.restart_policy_rules,
        security_context: from.security_context,
        startup_probe: from.startup_probe,
        stdin: from.stdin,
        stdin_once: from.stdin_once,
        termination_message_path: from.termination_message_path,
        termination_message_policy: from.termination_message_policy,
        tty: from.tty,
        volume_devices: from.volume_devices,
        volume_mounts: from.volume_mounts,
        working_dir: from.working_dir,
    }
}

/// The hash that tells whether a container must be made anew: of its name and image (FNV-1a, 32 bits).
pub fn hash(container: &Container) -> String {
    let text = format!("{{\"name\":{:?},\"image\":{:?}}}", container.name, container.image.as_deref().unwrap_or_default());
    let hash = text.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("{hash:x}")
}

/// Whether a container that ended with this code is started again, by its own rules, its own policy, or the pod's.
pub fn restarts_after(pod: &Pod, container: &Container, kind: ContainerKind, exit_code: i32) -> bool {
    match kind {
        ContainerKind::Sidecar => return true,
        ContainerKind::Ephemeral => return false,
        ContainerKind::Init | ContainerKind::Regular => {}
    }
    for rule in container.restart_policy_rules.iter().flatten() {
        let Some(codes) = &rule.exit_codes else { continue };
        let listed = codes.values.iter().flatten().any(|code| *code == exit_code);
        if listed == (codes.operator == "In") {
            return true;
        }
    }
    match container.restart_policy.as_deref().unwrap_or_else(|| restart_policy(pod)) {
        "Never" => false,
        // An init container that succeeded is done, whatever the policy.
        _ if kind == ContainerKind::Init => exit_code != 0,
        "OnFailure" => exit_code != 0,
        _ => true,
    }
}

/// Always, OnFailure or Never.
pub fn restart_policy(pod: &Pod) -> &str {
    spec(pod).restart_policy.as_deref().unwrap_or("Always")
}

pub fn is_host_network(pod: &Pod) -> bool {
    spec(pod).host_network == Some(true)
}
