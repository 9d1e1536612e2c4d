//! Security contexts: what a pod and its containers may do, for the runtime.
use super::containers::spec;
use super::identity::pod_text;
use cri::v1::security_profile::ProfileType;
use cri::v1::{
    Capability, Int64Value, LinuxContainerSecurityContext, LinuxSandboxSecurityContext, NamespaceMode, NamespaceOption, SeLinuxOption, SecurityProfile,
    SupplementalGroupsPolicy,
};
use k8s_openapi::api::core::v1::{AppArmorProfile, Container, Pod, SELinuxOptions, SeccompProfile, SecurityContext};
use std::path::Path;

/// Paths hidden from containers unless procMount is Unmasked (the container engines' common list).
const MASKED: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The user an image runs as.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageUser {
    pub uid: Option<i64>,
    pub name: String,
}

/// The sandbox's security context. `seccomp_root` holds localhost profiles.
pub fn sandbox_security(pod: &Pod, seccomp_root: &Path) -> LinuxSandboxSecurityContext {
    let of_pod = spec(pod).security_context.clone().unwrap_or_default();
    let containers = spec(pod).containers.iter().chain(spec(pod).init_containers.iter().flatten());
    let privileged = containers.filter_map(|c| c.security_context.as_ref()).any(|s| s.privileged == Some(true));
    LinuxSandboxSecurityContext {
        namespace_options: Some(namespaces(pod, None)),
        selinux_options: of_pod.se_linux_options.as_ref().map(selinux),
        run_as_user: of_pod.run_as_user.map(|value| Int64Value { value }),
        // CRI takes a group only beside a user.
        run_as_group: of_pod.run_as_user.and(of_pod.run_as_group).map(|value| Int64Value { value }),
        supplemental_groups: supplemental_groups(pod),
        supplemental_groups_policy: groups_policy(pod).into(),
        privileged,
        // As upstream: the sandbox's own process always runs under the runtime's default profile.
        seccomp: Some(of_pod.seccomp_profile.as_ref().map_or_else(
            || SecurityProfile { profile_type: ProfileType::RuntimeDefault.into(), localhost_ref: String::new() },
            |profile| seccomp(profile, seccomp_root),
        )),
        ..Default::default()
    }
}

/// The namespaces of a pod, or of an ephemeral container that joins the processes of `target` (a container id).
pub fn namespaces(pod: &Pod, target: Option<&str>) -> NamespaceOption {
    let spec = spec(pod);
    let of_host = |on: Option<bool>| if on == Some(true) { NamespaceMode::Node } else { NamespaceMode::Pod };
    let pid = match (spec.host_pid, spec.share_process_namespace, target) {
        (Some(true), ..) => NamespaceMode::Node,
        (_, Some(true), _) => NamespaceMode::Pod,
        (.., Some(_)) => NamespaceMode::Target,
        _ => NamespaceMode::Container,
    };
    NamespaceOption {
        network: of_host(spec.host_network).into(),
        ipc: of_host(spec.host_ipc).into(),
        pid: pid.into(),
        target_id: if pid == NamespaceMode::Target { target.unwrap_or_default().into() } else { String::new() },
        ..Default::default()
    }
}

/// A container's security context. The error is upstream's `CreateContainerConfigError` text.
pub fn container_security(
    pod: &Pod,
    container: &Container,
    image: &ImageUser,
    target: Option<&str>,
    seccomp_root: &Path,
) -> Result<LinuxContainerSecurityContext, String> {
    let of_pod = spec(pod).security_context.clone().unwrap_or_default();
    let own = container.security_context.clone().unwrap_or_default();
    let run_as_user = own.run_as_user.or(of_pod.run_as_user);
    check_non_root(pod, container, own.run_as_non_root.or(of_pod.run_as_non_root), run_as_user, image)?;
    let privileged = own.privileged == Some(true);
    let uid = run_as_user.or(image.uid);
    let unmasked = own.proc_mount.as_deref() == Some("Unmasked");
    let paths = |list: &[&str]| if unmasked { Vec::new() } else { list.iter().map(|p| (*p).to_owned()).collect() };
    let profile = own.seccomp_profile.as_ref().or(of_pod.seccomp_profile.as_ref());
    Ok(LinuxContainerSecurityContext {
        capabilities: own.capabilities.as_ref().map(|c| Capability {
            add_capabilities: c.add.clone().unwrap_or_default(),
            drop_capabilities: c.drop.clone().unwrap_or_default(),
            add_ambient_capabilities: Vec::new(),
        }),
        privileged,
        namespace_options: Some(namespaces(pod, target)),
        selinux_options: own.se_linux_options.as_ref().or(of_pod.se_linux_options.as_ref()).map(selinux),
        run_as_user: uid.map(|value| Int64Value { value }),
        run_as_username: if uid.is_none() { image.name.clone() } else { String::new() },
        run_as_group: own.run_as_group.or(of_pod.run_as_group).map(|value| Int64Value { value }),
        readonly_rootfs: own.read_only_root_filesystem == Some(true),
        supplemental_groups: supplemental_groups(pod),
        supplemental_groups_policy: groups_policy(pod).into(),
        no_new_privs: no_new_privileges(&own),
        masked_paths: paths(&MASKED),
        readonly_paths: paths(&READ_ONLY),
        seccomp: Some(profile.map_or_else(|| profile_of(ProfileType::Unconfined), |profile| seccomp(profile, seccomp_root))),
        apparmor: own.app_armor_profile.as_ref().or(of_pod.app_armor_profile.as_ref()).map(apparmor),
        ..Default::default()
    })
}

fn no_new_privileges(context: &SecurityContext) -> bool {
    context.allow_privilege_escalation == Some(false)
}

/// As upstream's `verifyRunAsNonRoot`.
fn check_non_root(pod: &Pod, container: &Container, wanted: Option<bool>, run_as_user: Option<i64>, image: &ImageUser) -> Result<(), String> {
    if wanted != Some(true) {
        return Ok(());
    }
    let place = format!("(pod: \"{}\", container: {})", pod_text(pod), container.name);
    match (run_as_user, image.uid) {
        (Some(0), _) => Err(format!("container's runAsUser breaks non-root policy {place}")),
        (Some(_), _) => Ok(()),
        (None, Some(0)) => Err(format!("container has runAsNonRoot and image will run as root {place}")),
        (None, None) if !image.name.is_empty() => {
            Err(format!("container has runAsNonRoot and image has non-numeric user ({}), cannot verify user is non-root {place}", image.name))
        }
        _ => Ok(()),
    }
}

fn supplemental_groups(pod: &Pod) -> Vec<i64> {
    let Some(context) = &spec(pod).security_context else { return Vec::new() };
    context.fs_group.into_iter().chain(context.supplemental_groups.iter().flatten().copied()).collect()
}

fn groups_policy(pod: &Pod) -> SupplementalGroupsPolicy {
    let policy = spec(pod).security_context.as_ref().and_then(|c| c.supplemental_groups_policy.as_deref());
    if policy == Some("Strict") { SupplementalGroupsPolicy::Strict } else { SupplementalGroupsPolicy::Merge }
}

fn profile_of(profile_type: ProfileType) -> SecurityProfile {
    SecurityProfile { profile_type: profile_type.into(), localhost_ref: String::new() }
}

fn seccomp(profile: &SeccompProfile, root: &Path) -> SecurityProfile {
    match (profile.type_.as_str(), &profile.localhost_profile) {
        ("RuntimeDefault", _) => profile_of(ProfileType::RuntimeDefault),
        ("Localhost", Some(name)) => {
            SecurityProfile { profile_type: ProfileType::Localhost.into(), localhost_ref: root.join(name).to_string_lossy().into_owned() }
        }
        _ => profile_of(ProfileType::Unconfined),
    }
}

fn apparmor(profile: &AppArmorProfile) -> SecurityProfile {
    match (profile.type_.as_str(), &profile.localhost_profile) {
        ("RuntimeDefault", _) => profile_of(ProfileType::RuntimeDefault),
        ("Localhost", Some(name)) => SecurityProfile { profile_type: ProfileType::Localhost.into(), localhost_ref: name.clone() },
        _ => profile_of(ProfileType::Unconfined),
    }
}

fn selinux(options: &SELinuxOptions) -> SeLinuxOption {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    SeLinuxOption { user: text(&options.user), role: text(&options.role), r#type: text(&options.type_), level: text(&options.level) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn security(pod_context: Value, context: Value, image: &ImageUser) -> Result<LinuxContainerSecurityContext, String> {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"},
            "spec": {"securityContext": pod_context, "containers": [{"name": "c", "securityContext": context}]}}))
        .unwrap();
        container_security(&pod, &spec(&pod).containers[0], image, None, Path::new("/profiles"))
    }

    #[test]
    fn a_containers_own_context_comes_before_the_pods() {
        let got = security(
            json!({"runAsUser": 1, "runAsGroup": 2, "fsGroup": 3, "supplementalGroups": [4], "seccompProfile": {"type": "RuntimeDefault"}}),
            json!({"runAsUser": 10, "seccompProfile": {"type": "Localhost", "localhostProfile": "a.json"}, "allowPrivilegeEscalation": false,
                "capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]}}),
            &ImageUser::default(),
        )
        .unwrap();
        assert_eq!((got.run_as_user.unwrap().value, got.run_as_group.unwrap().value, got.supplemental_groups), (10, 2, vec![3, 4]));
        assert_eq!(got.seccomp.unwrap().localhost_ref, "/profiles/a.json");
        assert!(got.no_new_privs && !got.masked_paths.is_empty());
    }

    #[test]
    fn root_is_refused_where_it_must_not_run() {
        let image = |uid, name: &str| ImageUser { uid, name: name.into() };
        let non_root = || json!({"runAsNonRoot": true});
        assert!(security(non_root(), json!({"runAsUser": 5}), &image(Some(0), "")).is_ok());
        assert!(security(non_root(), json!({}), &image(Some(7), "")).is_ok());
        for (context, image, want) in [
            (json!({"runAsUser": 0}), image(Some(7), ""), "container's runAsUser breaks non-root policy (pod: \"p_n(u)\", container: c)"),
            (json!({}), image(Some(0), ""), "container has runAsNonRoot and image will run as root (pod: \"p_n(u)\", container: c)"),
            (
                json!({}),
                image(None, "web"),
                "container has runAsNonRoot and image has non-numeric user (web), cannot verify user is non-root (pod: \"p_n(u)\", container: c)",
            ),
        ] {
            assert_eq!(security(non_root(), context, &image).unwrap_err(), want);
        }
        assert!(security(non_root(), json!({"runAsNonRoot": false, "runAsUser": 0}), &image(None, "")).is_ok());
    }
}
