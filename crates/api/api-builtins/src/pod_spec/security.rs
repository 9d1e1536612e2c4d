//! Security contexts of pods and containers, and what the operating system of a pod rules out.
use super::windows;
use crate::check::names::descending_path;
use crate::check::{At, Report};
use crate::fields::Read;
use api_meta::FieldErrors;
use std::collections::BTreeSet;

const ID_RANGE: &str = "must be between 0 and 2147483647, inclusive";

pub fn pod(errors: &mut FieldErrors, spec: &At) {
    let context = spec.field("securityContext");
    ids(errors, &context, &["fsGroup", "runAsUser", "runAsGroup"]);
    let groups = context.field("supplementalGroups");
    for group in groups.items() {
        id(errors, &group);
    }
    if spec["shareProcessNamespace"].flag() && spec["hostPID"].flag() {
        errors.invalid_as(&context.field("shareProcessNamespace"), true, "ShareProcessNamespace and HostPID cannot both be enabled");
    }
    sysctls(errors, spec, &context.field("sysctls"));
    errors.one_of_if_set(&context.field("fsGroupChangePolicy"), &["Always", "OnRootMismatch"]);
    errors.one_of_if_set(&context.field("supplementalGroupsPolicy"), &["Merge", "Strict"]);
    errors.one_of_if_set(&context.field("seLinuxChangePolicy"), &["MountOption", "Recursive"]);
    seccomp(errors, &context.field("seccompProfile"));
    app_armor(errors, &context.field("appArmorProfile"));
    windows::options(errors, &context.field("windowsOptions"));
    windows::host_process(errors, spec);
}

pub fn container(errors: &mut FieldErrors, context: &At, host_users: bool) {
    if context.is_null() {
        return;
    }
    ids(errors, context, &["runAsUser", "runAsGroup"]);
    let proc_mount = context.field("procMount");
    if proc_mount.is_set() {
        match proc_mount.text() {
            "Default" => {}
            "Unmasked" if host_users => errors.invalid(&proc_mount, "`hostUsers` must be false to use `Unmasked`"),
            "Unmasked" => {}
            _ => errors.not_supported(&proc_mount, &["Default", "Unmasked"]),
        }
    }
    seccomp(errors, &context.field("seccompProfile"));
    app_armor(errors, &context.field("appArmorProfile"));
    windows::options(errors, &context.field("windowsOptions"));
    let escalation = context.field("allowPrivilegeEscalation");
    if escalation.as_bool() == Some(false) {
        if context["privileged"].flag() {
            errors.invalid(context, "cannot set `allowPrivilegeEscalation` to false and `privileged` to true");
        }
        if context["capabilities"]["add"].texts().any(|capability| capability == "CAP_SYS_ADMIN") {
            errors.invalid(context, "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN");
        }
    }
}

/// A user namespace of its own goes with no other namespace of the host.
pub fn host_users(errors: &mut FieldErrors, spec: &At) {
    if spec["hostUsers"].as_bool() != Some(false) {
        return;
    }
    for (field, shown) in [("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")] {
        if spec[field].flag() {
            errors.forbidden(&spec.field(shown), "when `pod.Spec.HostUsers` is false");
        }
    }
}

pub fn operating_system(errors: &mut FieldErrors, spec: &At) {
    let system = spec.field("os");
    if system.is_null() {
        return;
    }
    let name = system.field("name");
    match name.text() {
        "linux" => {
            for context in contexts(spec) {
                let path = format!("{context}.windowsOptions");
                if at_list(spec, &path) {
                    errors.push(api_meta::FieldError::forbidden(&spec.path().child(&path), "windows options cannot be set for a linux pod"));
                }
            }
        }
        "windows" => {
            const NOT_FOR_WINDOWS: &[&str] = &[
                "appArmorProfile",
                "seLinuxOptions",
                "seccompProfile",
                "fsGroup",
                "fsGroupChangePolicy",
                "sysctls",
                "runAsUser",
                "runAsGroup",
                "supplementalGroups",
                "supplementalGroupsPolicy",
                "seLinuxChangePolicy",
                "capabilities",
                "readOnlyRootFilesystem",
                "privileged",
                "allowPrivilegeEscalation",
                "procMount",
            ];
            for field in ["hostUsers", "hostPID", "hostIPC", "shareProcessNamespace"] {
                if !spec[field].is_zero() {
                    errors.forbidden(&spec.field(field), "cannot be set for a windows pod");
                }
            }
            for context in contexts(spec) {
                for field in NOT_FOR_WINDOWS {
                    let path = format!("{context}.{field}");
                    if at_list(spec, &path) {
                        errors.push(api_meta::FieldError::forbidden(&spec.path().child(&path), "cannot be set for a windows pod"));
                    }
                }
            }
        }
        "" => errors.required(&name, ""),
        _ => errors.not_supported(&name, &["linux", "windows"]),
    }
}

/// Where security contexts stand in a spec: the pod's, then each container's.
fn contexts(spec: &At) -> Vec<String> {
    let mut paths = vec!["securityContext".to_owned()];
    for list in ["containers", "initContainers"] {
        paths.extend((0..spec[list].list().len()).map(|index| format!("{list}[{index}].securityContext")));
    }
    paths
}

/// Whether something is set at `list[index].field.field`.
fn at_list(spec: &At, path: &str) -> bool {
    path.split('.')
        .fold(spec.value(), |value, part| match part.strip_suffix(']').and_then(|part| part.split_once('[')) {
            Some((list, index)) => &value[list][index.parse::<usize>().unwrap_or_default()],
            None => &value[part],
        })
        .is_set()
}

fn ids(errors: &mut FieldErrors, context: &At, fields: &[&str]) {
    for field in fields {
        id(errors, &context.field(field));
    }
}

fn id(errors: &mut FieldErrors, at: &At) {
    if at.int().is_some_and(|id| !(0..=i64::from(i32::MAX)).contains(&id)) {
        errors.invalid(at, ID_RANGE);
    }
}

fn seccomp(errors: &mut FieldErrors, profile: &At) {
    if profile.is_null() {
        return;
    }
    let (kind, file) = (profile.field("type"), profile.field("localhostProfile"));
    match kind.text() {
        "" => errors.required(&kind, "type is required when seccompProfile is set"),
        "Localhost" | "RuntimeDefault" | "Unconfined" => {}
        _ => errors.not_supported(&kind, &["Localhost", "RuntimeDefault", "Unconfined"]),
    }
    match (kind.text() == "Localhost", file.is_set()) {
        (true, false) => errors.required(&file, "must be set when seccomp type is Localhost"),
        (true, true) => errors.reasons(&file, descending_path(file.text())),
        (false, true) => errors.invalid_as(&file, profile.value().clone(), "can only be set when seccomp type is Localhost"),
        (false, false) => {}
    }
}

fn app_armor(errors: &mut FieldErrors, profile: &At) {
    if profile.is_null() {
        return;
    }
    let (kind, name) = (profile.field("type"), profile.field("localhostProfile"));
    match kind.text() {
        "" => errors.required(&kind, "type is required when appArmorProfile is set"),
        "Localhost" if name.text() != name.text().trim() => errors.invalid(&name, "must not be padded with whitespace"),
        "Localhost" if name.text().is_empty() => errors.required(&name, "must be set when AppArmor type is Localhost"),
        "Localhost" if name.text().len() > 4095 => errors.too_long(&name, 4095),
        "Localhost" => {}
        "RuntimeDefault" | "Unconfined" if name.is_set() => errors.invalid(&name, "can only be set when AppArmor type is Localhost"),
        "RuntimeDefault" | "Unconfined" => {}
        _ => errors.not_supported(&kind, &["Localhost", "RuntimeDefault", "Unconfined"]),
    }
}

fn sysctls(errors: &mut FieldErrors, spec: &At, at: &At) {
    let mut seen = BTreeSet::new();
    for sysctl in at.items() {
        let name = sysctl.field("name");
        let text = name.text();
        if text.is_empty() {
            errors.required(&name, "");
        } else if !is_sysctl(text) {
            errors.invalid(&name, "must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$");
        } else if !seen.insert(text.to_owned()) {
            errors.duplicate(&name);
        }
        let of_network = text.starts_with("net.") || text.starts_with("net/");
        let of_processes = ["kernel.shm", "kernel.msg", "fs.mqueue."].iter().any(|prefix| text.replace('/', ".").starts_with(prefix)) || text == "kernel.sem";
        if of_network && spec["hostNetwork"].flag() {
            errors.invalid(&name, "may not be specified when 'hostNetwork' is true");
        } else if of_processes && spec["hostIPC"].flag() {
            errors.invalid(&name, "may not be specified when 'hostIPC' is true");
        }
    }
}

fn is_sysctl(name: &str) -> bool {
    let edge = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    name.len() <= 253
        && name.split(['.', '/']).all(|part| {
            let bytes = part.as_bytes();
            bytes.first().is_some_and(edge) && bytes.last().is_some_and(edge) && bytes.iter().all(|byte| edge(byte) || matches!(byte, b'-' | b'_'))
        })
}
