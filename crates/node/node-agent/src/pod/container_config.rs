//! The configuration of a container for the runtime.
use super::containers::{self, hash, spec};
use super::environment::expand;
use super::identity::{
    CONTAINER_NAME_LABEL, DELETION_GRACE_ANNOTATION, GRACE_ANNOTATION, HASH_ANNOTATION, MESSAGE_PATH_ANNOTATION, MESSAGE_POLICY_ANNOTATION, PORTS_ANNOTATION,
    PodId, RESTART_COUNT_ANNOTATION,
};
use super::paths::log_path;
use super::resources::{NodeLimits, container_resources};
use super::sandbox_config::pod_labels;
use super::security::{ImageUser, container_security};
use cri::v1::{CdiDevice, ContainerConfig, ContainerMetadata, ImageSpec, KeyValue, LinuxContainerConfig, Mount, MountPropagation};
use k8s_openapi::api::core::v1::{Container, Pod};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What beside the pod shapes a container.
#[derive(Debug)]
pub struct ContainerInput<'a> {
    pub id: &'a PodId,
    pub pod: &'a Pod,
    pub container: &'a Container,
    pub restart_count: i32,
    /// The image's id on this node.
    pub image_id: &'a str,
    pub image_user: &'a ImageUser,
    pub environment: Vec<(String, String)>,
    pub mounts: Vec<Mount>,
    pub devices: Vec<cri::v1::Device>,
    /// Devices for the runtime to look up.
    pub cdi_names: Vec<String>,
    /// The container (by id) whose processes an ephemeral container joins.
    pub target: Option<&'a str>,
    pub node: NodeLimits,
    pub seccomp_root: &'a Path,
}

/// Where containers leave their last words unless they say otherwise.
pub const DEFAULT_MESSAGE_PATH: &str = "/dev/termination-log";

/// The configuration. The error is upstream's `CreateContainerConfigError` text.
pub fn container_config(input: ContainerInput<'_>) -> Result<ContainerConfig, String> {
    let (pod, container) = (input.pod, input.container);
    let security = container_security(pod, container, input.image_user, input.target, input.seccomp_root)?;
    let known: BTreeMap<&str, &str> = input.environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let expanded = |list: &Option<Vec<String>>| list.iter().flatten().map(|text| expand(text, |name| known.get(name).copied())).collect();
    let mut labels = pod_labels(input.id, pod);
    labels.insert(CONTAINER_NAME_LABEL.into(), container.name.clone());
    Ok(ContainerConfig {
        metadata: Some(ContainerMetadata { name: container.name.clone(), attempt: u32::try_from(input.restart_count).unwrap_or(0) }),
        image: Some(ImageSpec { image: input.image_id.into(), user_specified_image: container.image.clone().unwrap_or_default(), ..Default::default() }),
        command: expanded(&container.command),
        args: expanded(&container.args),
        working_dir: container.working_dir.clone().unwrap_or_default(),
        envs: input.environment.iter().map(|(key, value)| KeyValue { key: key.clone(), value: value.clone() }).collect(),
        mounts: input.mounts,
        devices: input.devices,
        cdi_devices: input.cdi_names.into_iter().map(|name| CdiDevice { name }).collect(),
        labels,
        annotations: annotations(pod, container, input.restart_count),
        log_path: log_path(&container.name, input.restart_count),
        stdin: container.stdin == Some(true),
        stdin_once: container.stdin_once == Some(true),
        tty: container.tty == Some(true),
        linux: Some(LinuxContainerConfig { resources: Some(container_resources(pod, container, input.node)), security_context: Some(security) }),
        stop_signal: container.lifecycle.as_ref().and_then(|l| l.stop_signal.as_deref()).map_or(0, signal_number),
    })
}

fn annotations(pod: &Pod, container: &Container, restart_count: i32) -> BTreeMap<String, String> {
    let mut out = BTreeMap::from([
        (HASH_ANNOTATION.to_owned(), hash(container)),
        (RESTART_COUNT_ANNOTATION.to_owned(), restart_count.to_string()),
        (MESSAGE_PATH_ANNOTATION.to_owned(), message_path(container).to_owned()),
        (MESSAGE_POLICY_ANNOTATION.to_owned(), container.termination_message_policy.clone().unwrap_or_else(|| "File".into())),
    ]);
    if let Some(seconds) = pod.metadata.deletion_grace_period_seconds {
        out.insert(DELETION_GRACE_ANNOTATION.into(), seconds.to_string());
    }
    if let Some(seconds) = spec(pod).termination_grace_period_seconds {
        out.insert(GRACE_ANNOTATION.into(), seconds.to_string());
    }
    if let Some(ports) = container.ports.as_ref().and_then(|ports| serde_json::to_string(ports).ok()) {
        out.insert(PORTS_ANNOTATION.into(), ports);
    }
    out
}

pub fn message_path(container: &Container) -> &str {
    container.termination_message_path.as_deref().filter(|path| !path.is_empty()).unwrap_or(DEFAULT_MESSAGE_PATH)
}

/// A mount of one volume: where the volume (or its part) lies, and how the container wants it.
pub fn volume_mount(mount: &k8s_openapi::api::core::v1::VolumeMount, host_path: &Path, volume_is_read_only: bool) -> Mount {
    let propagation = match mount.mount_propagation.as_deref() {
        Some("HostToContainer") => MountPropagation::PropagationHostToContainer,
        Some("Bidirectional") => MountPropagation::PropagationBidirectional,
        _ => MountPropagation::PropagationPrivate,
    };
    let path = &mount.mount_path;
    Mount {
        // A relative path means one below the root.
        container_path: if path.starts_with('/') { path.clone() } else { format!("/{path}") },
        host_path: host_path.to_string_lossy().into_owned(),
        readonly: mount.read_only == Some(true) || volume_is_read_only,
        propagation: propagation.into(),
        recursive_read_only: mount.recursive_read_only.as_deref() == Some("Enabled"),
        ..Default::default()
    }
}

/// The mount of /etc/hosts, unless the container brings its own.
pub fn hosts_mount(container: &Container, file: &Path) -> Option<Mount> {
    let own = container.volume_mounts.iter().flatten().any(|m| Path::new(&m.mount_path) == Path::new("/etc/hosts"));
    (!own).then(|| Mount { container_path: "/etc/hosts".into(), host_path: file.to_string_lossy().into_owned(), ..Default::default() })
}

/// The mount of the file for last words.
pub fn message_mount(container: &Container, file: &Path) -> Mount {
    Mount { container_path: message_path(container).into(), host_path: file.to_string_lossy().into_owned(), ..Default::default() }
}

/// Files of volumes that environment variables are read from: volume name and path.
pub fn environment_files(container: &Container) -> Vec<(String, PathBuf)> {
    let sources = container.env.iter().flatten().filter_map(|v| v.value_from.as_ref()?.file_key_ref.as_ref());
    sources.map(|r| (r.volume_name.clone(), PathBuf::from(&r.path))).collect()
}

/// CRI's number of a signal's name; 0 for unknown ones.
fn signal_number(name: &str) -> i32 {
    const NAMES: [&str; 34] = [
        "SIGABRT",
        "SIGALRM",
        "SIGBUS",
        "SIGCHLD",
        "SIGCLD",
        "SIGCONT",
        "SIGFPE",
        "SIGHUP",
        "SIGILL",
        "SIGINT",
        "SIGIO",
        "SIGIOT",
        "SIGKILL",
        "SIGPIPE",
        "SIGPOLL",
        "SIGPROF",
        "SIGPWR",
        "SIGQUIT",
        "SIGSEGV",
        "SIGSTKFLT",
        "SIGSTOP",
        "SIGSYS",
        "SIGTERM",
        "SIGTRAP",
        "SIGTSTP",
        "SIGTTIN",
        "SIGTTOU",
        "SIGURG",
        "SIGUSR1",
        "SIGUSR2",
        "SIGVTALRM",
        "SIGWINCH",
        "SIGXCPU",
        "SIGXFSZ",
    ];
    let numbered = |prefix: &str, base: i32, sign: i32| name.strip_prefix(prefix).and_then(|n| n.parse::<i32>().ok()).map(|n| base + sign * n);
    let position = NAMES.iter().position(|n| *n == name).and_then(|at| i32::try_from(at + 1).ok());
    let real_time = match name {
        "SIGRTMIN" => Some(35),
        "SIGRTMAX" => Some(65),
        _ => numbered("SIGRTMIN+", 35, 1).or_else(|| numbered("SIGRTMAX-", 65, -1)).filter(|n| (35..=65).contains(n)),
    };
    position.or(real_time).unwrap_or(0)
}

/// The container an ephemeral one wants to see the processes of.
pub fn target_container<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    containers::ephemeral_containers(pod).iter().find(|c| c.name == name)?.target_container_name.as_deref().filter(|target| !target.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_the_protocols_numbers() {
        for (name, number) in [("SIGABRT", 1), ("SIGTERM", 23), ("SIGXFSZ", 34), ("SIGRTMIN+2", 37), ("SIGRTMAX-1", 64), ("SIGNONE", 0)] {
            assert_eq!(signal_number(name), number, "{name}");
        }
    }
}
