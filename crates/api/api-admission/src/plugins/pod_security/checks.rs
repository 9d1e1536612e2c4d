//! The Pod Security Standards: each control a function, with upstream's reasons and details.
use super::policy::{Level, Standard, Version};
use crate::pod::CONTAINER_LISTS;
use crate::request::items;
use serde_json::Value;
use std::collections::BTreeSet;

/// A control that a pod breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub reason: String,
    pub detail: String,
}

type Check = fn(&Pod, Version) -> Option<Violation>;

/// (level, the first minor version that has it, control), in upstream's order.
const CHECKS: &[(Level, u32, Check)] = &[
    (Level::Baseline, 0, app_armor_profile),
    (Level::Baseline, 0, baseline_capabilities),
    (Level::Baseline, 0, host_namespaces),
    (Level::Baseline, 0, host_path_volumes),
    (Level::Baseline, 0, host_ports),
    (Level::Baseline, 34, probe_hosts),
    (Level::Baseline, 0, privileged),
    (Level::Baseline, 0, proc_mount),
    (Level::Baseline, 0, se_linux_options),
    (Level::Baseline, 0, baseline_seccomp),
    (Level::Baseline, 0, sysctls),
    (Level::Baseline, 0, windows_host_process),
    (Level::Restricted, 8, allow_privilege_escalation),
    (Level::Restricted, 22, restricted_capabilities),
    (Level::Restricted, 35, any_proc_mount),
    (Level::Restricted, 0, restricted_volumes),
    (Level::Restricted, 0, run_as_non_root),
    (Level::Restricted, 23, run_as_user),
    (Level::Restricted, 19, restricted_seccomp),
];

/// The controls of a standard that a pod (its metadata and spec) breaks.
pub fn violations(standard: Standard, metadata: &Value, spec: &Value) -> Vec<Violation> {
    let pod = Pod { metadata, spec };
    let Standard { level, version } = standard;
    let replaced = |check: Check| {
        let by: &[(Check, u32)] = &[(baseline_capabilities, 22), (host_path_volumes, 0), (baseline_seccomp, 19), (proc_mount, 35)];
        level == Level::Restricted && by.iter().any(|(of, since)| std::ptr::fn_addr_eq(*of, check) && Version(*since) <= version)
    };
    let applies = |(of, since, check): &&(Level, u32, Check)| *of <= level && Version(*since) <= version && !replaced(*check);
    CHECKS.iter().filter(applies).filter_map(|(_, _, check)| check(&pod, version)).collect()
}

/// `reason (detail), reason (detail)`.
pub fn details(violations: &[Violation]) -> String {
    let text = |violation: &Violation| match violation.detail.as_str() {
        "" => violation.reason.clone(),
        detail => format!("{} ({detail})", violation.reason),
    };
    violations.iter().map(text).collect::<Vec<_>>().join(", ")
}

struct Pod<'a> {
    metadata: &'a Value,
    spec: &'a Value,
}

impl<'a> Pod<'a> {
    fn containers(&self) -> impl Iterator<Item = &'a Value> {
        let spec = self.spec;
        CONTAINER_LISTS.into_iter().flat_map(move |list| items(&spec[list]))
    }
    /// Names of the containers for which `bad` holds.
    fn bad_containers(&self, mut bad: impl FnMut(&Value) -> bool) -> Vec<String> {
        self.containers().filter(|container| bad(container)).map(name).collect()
    }
    fn is_windows(&self) -> bool {
        self.spec["os"]["name"] == "windows"
    }
    /// A pod with user namespaces is root nowhere but within itself.
    fn has_user_namespace(&self) -> bool {
        self.spec["hostUsers"] == false
    }
}

fn name(object: &Value) -> String {
    object["name"].as_str().unwrap_or_default().to_owned()
}

fn violation(reason: impl Into<String>, detail: impl Into<String>) -> Option<Violation> {
    Some(Violation { reason: reason.into(), detail: detail.into() })
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn quoted<T: AsRef<str>>(names: impl IntoIterator<Item = T>) -> String {
    names.into_iter().map(|name| format!("{:?}", name.as_ref())).collect::<Vec<_>>().join(", ")
}

fn plural<'a>(one: &'a str, many: &'a str, count: usize) -> &'a str {
    if count == 1 { one } else { many }
}

/// `container "a"` or `containers "a", "b"`.
fn containers(names: &[String]) -> String {
    format!("{} {}", plural("container", "containers", names.len()), quoted(names))
}

/// `pod and containers "a", "b"`, of those that set something bad.
fn setters(pod: bool, bad: &[String]) -> String {
    let mut setters = Vec::new();
    if pod {
        setters.push("pod".to_owned());
    }
    if !bad.is_empty() {
        setters.push(containers(bad));
    }
    setters.join(" and ")
}

fn app_armor_profile(pod: &Pod, _: Version) -> Option<Violation> {
    const ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";
    let mut values = BTreeSet::new();
    let mut bad = |context: &Value| {
        let profile = &context["securityContext"]["appArmorProfile"];
        let bad = profile.is_object() && profile["type"] != "RuntimeDefault" && profile["type"] != "Localhost";
        if bad {
            values.insert(text(&profile["type"]));
        }
        bad
    };
    let pod_bad = bad(pod.spec);
    let bad_containers = pod.bad_containers(&mut bad);
    let annotations = pod.metadata["annotations"].as_object().into_iter().flatten().filter_map(|(key, value)| {
        let value = value.as_str().unwrap_or_default();
        let bad = key.starts_with(ANNOTATION) && !value.is_empty() && value != "runtime/default" && !value.starts_with("localhost/");
        bad.then(|| format!("{key}={value:?}"))
    });
    let annotations: Vec<String> = annotations.collect();
    let mut setters = setters(pod_bad, &bad_containers);
    let mut all: Vec<String> = values.into_iter().collect();
    if !annotations.is_empty() {
        let word = plural("annotation", "annotations", annotations.len());
        setters = if setters.is_empty() { word.to_owned() } else { format!("{setters} and {word}") };
        all.extend(annotations);
    }
    if setters.is_empty() {
        return None;
    }
    let reason = plural("forbidden AppArmor profile", "forbidden AppArmor profiles", all.len());
    violation(reason, format!("{setters} must not set AppArmor profile type to {}", quoted(all)))
}

/// (containers, capabilities) added beyond those allowed.
fn added_capabilities(pod: &Pod, allowed: &[&str]) -> (Vec<String>, BTreeSet<String>) {
    let mut forbidden = BTreeSet::new();
    let bad = pod.bad_containers(|container| {
        let added = items(&container["securityContext"]["capabilities"]["add"]).iter().map(text);
        let extra: Vec<String> = added.filter(|capability| !allowed.contains(&capability.as_str())).collect();
        let bad = !extra.is_empty();
        forbidden.extend(extra);
        bad
    });
    (bad, forbidden)
}

fn baseline_capabilities(pod: &Pod, _: Version) -> Option<Violation> {
    const ALLOWED: [&str; 13] = [
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    ];
    let (bad, forbidden) = added_capabilities(pod, &ALLOWED);
    if bad.is_empty() {
        return None;
    }
    violation("non-default capabilities", format!("{} must not include {} in securityContext.capabilities.add", containers(&bad), quoted(forbidden)))
}

fn host_namespaces(pod: &Pod, _: Version) -> Option<Violation> {
    let used: Vec<String> =
        ["hostNetwork", "hostPID", "hostIPC"].into_iter().filter(|field| pod.spec[*field] == true).map(|field| format!("{field}=true")).collect();
    if used.is_empty() { None } else { violation("host namespaces", used.join(", ")) }
}

fn host_path_volumes(pod: &Pod, _: Version) -> Option<Violation> {
    let bad: Vec<String> = items(&pod.spec["volumes"]).iter().filter(|volume| volume["hostPath"].is_object()).map(name).collect();
    if bad.is_empty() { None } else { violation("hostPath volumes", format!("{} {}", plural("volume", "volumes", bad.len()), quoted(bad))) }
}

fn host_ports(pod: &Pod, _: Version) -> Option<Violation> {
    let mut ports = BTreeSet::new();
    let bad = pod.bad_containers(|container| {
        let used: Vec<i64> = items(&container["ports"]).iter().filter_map(|port| port["hostPort"].as_i64()).filter(|port| *port != 0).collect();
        ports.extend(used.iter().map(ToString::to_string));
        !used.is_empty()
    });
    if bad.is_empty() {
        return None;
    }
    let (uses, word) = (plural("uses", "use", bad.len()), plural("hostPort", "hostPorts", ports.len()));
    violation("hostPort", format!("{} {uses} {word} {}", containers(&bad), ports.into_iter().collect::<Vec<_>>().join(", ")))
}

fn probe_hosts(pod: &Pod, _: Version) -> Option<Violation> {
    let mut hosts = BTreeSet::new();
    let mut bad = pod.bad_containers(|container| {
        let handlers = ["livenessProbe", "readinessProbe", "startupProbe"].map(|probe| &container[probe]);
        let hooks = ["postStart", "preStop"].map(|hook| &container["lifecycle"][hook]);
        let set = handlers.into_iter().chain(hooks).flat_map(|handler| [&handler["httpGet"]["host"], &handler["tcpSocket"]["host"]]);
        let set: Vec<String> = set.map(text).filter(|host| !host.is_empty()).collect();
        let bad = !set.is_empty();
        hosts.extend(set);
        bad
    });
    if bad.is_empty() {
        return None;
    }
    bad.sort();
    let (uses, word) = (plural("uses", "use", bad.len()), plural("probe or lifecycle host", "probe or lifecycle hosts", hosts.len()));
    violation("probe or lifecycle host", format!("{} {uses} {word} {}", containers(&bad), quoted(hosts)))
}

fn privileged(pod: &Pod, _: Version) -> Option<Violation> {
    let bad = pod.bad_containers(|container| container["securityContext"]["privileged"] == true);
    if bad.is_empty() { None } else { violation("privileged", format!("{} must not set securityContext.privileged=true", containers(&bad))) }
}

fn proc_mount(pod: &Pod, version: Version) -> Option<Violation> {
    if version >= Version(35) && pod.has_user_namespace() { None } else { any_proc_mount(pod, version) }
}

fn any_proc_mount(pod: &Pod, _: Version) -> Option<Violation> {
    let mut types = BTreeSet::new();
    let bad = pod.bad_containers(|container| {
        let mount = text(&container["securityContext"]["procMount"]);
        let bad = !mount.is_empty() && mount != "Default";
        if bad {
            types.insert(mount);
        }
        bad
    });
    if bad.is_empty() {
        return None;
    }
    violation("procMount", format!("{} must not set securityContext.procMount to {}", containers(&bad), quoted(types)))
}

fn se_linux_options(pod: &Pod, version: Version) -> Option<Violation> {
    let (mut types, mut user, mut role) = (BTreeSet::new(), false, false);
    let mut bad = |context: &Value| {
        let options = &context["securityContext"]["seLinuxOptions"];
        let kind = text(&options["type"]);
        let type_bad = match kind.as_str() {
            "" | "container_t" | "container_init_t" | "container_kvm_t" => false,
            "container_engine_t" => version < Version(31),
            _ => true,
        };
        let (user_bad, role_bad) = (!text(&options["user"]).is_empty(), !text(&options["role"]).is_empty());
        if type_bad {
            types.insert(kind);
        }
        user |= user_bad;
        role |= role_bad;
        type_bad || user_bad || role_bad
    };
    let pod_bad = bad(pod.spec);
    let bad_containers = pod.bad_containers(&mut bad);
    if !pod_bad && bad_containers.is_empty() {
        return None;
    }
    let mut data = Vec::new();
    if !types.is_empty() {
        data.push(format!("{} {}", plural("type", "types", types.len()), quoted(types)));
    }
    if user {
        data.push("user may not be set".into());
    }
    if role {
        data.push("role may not be set".into());
    }
    violation("seLinuxOptions", format!("{} set forbidden securityContext.seLinuxOptions: {}", setters(pod_bad, &bad_containers), data.join("; ")))
}

/// Who sets a seccomp profile that is neither RuntimeDefault nor Localhost, if anyone does.
fn bad_seccomp(pod: &Pod) -> Option<Violation> {
    let mut types = BTreeSet::new();
    let mut bad = |context: &Value| {
        let profile = &context["securityContext"]["seccompProfile"];
        let bad = profile.is_object() && profile["type"] != "RuntimeDefault" && profile["type"] != "Localhost";
        if bad {
            types.insert(text(&profile["type"]));
        }
        bad
    };
    let pod_bad = bad(pod.spec);
    let bad_containers = pod.bad_containers(&mut bad);
    if !pod_bad && bad_containers.is_empty() {
        return None;
    }
    let setters = setters(pod_bad, &bad_containers);
    violation("seccompProfile", format!("{setters} must not set securityContext.seccompProfile.type to {}", quoted(types)))
}

fn baseline_seccomp(pod: &Pod, _: Version) -> Option<Violation> {
    bad_seccomp(pod)
}

fn sysctls(pod: &Pod, version: Version) -> Option<Violation> {
    const ALLOWED: [(&str, u32); 12] = [
        ("kernel.shm_rmid_forced", 0),
        ("net.ipv4.ip_local_port_range", 0),
        ("net.ipv4.tcp_syncookies", 0),
        ("net.ipv4.ping_group_range", 0),
        ("net.ipv4.ip_unprivileged_port_start", 0),
        ("net.ipv4.ip_local_reserved_ports", 27),
        ("net.ipv4.tcp_keepalive_time", 29),
        ("net.ipv4.tcp_fin_timeout", 29),
        ("net.ipv4.tcp_keepalive_intvl", 29),
        ("net.ipv4.tcp_keepalive_probes", 29),
        ("net.ipv4.tcp_rmem", 32),
        ("net.ipv4.tcp_wmem", 32),
    ];
    let allowed = |name: &str| ALLOWED.iter().any(|(allowed, since)| *allowed == name && Version(*since) <= version);
    let bad: Vec<String> = items(&pod.spec["securityContext"]["sysctls"]).iter().map(name).filter(|name| !allowed(name)).collect();
    if bad.is_empty() { None } else { violation("forbidden sysctls", bad.join(", ")) }
}

fn windows_host_process(pod: &Pod, _: Version) -> Option<Violation> {
    let bad = |context: &Value| context["securityContext"]["windowsOptions"]["hostProcess"] == true;
    let bad_containers = pod.bad_containers(bad);
    if !bad(pod.spec) && bad_containers.is_empty() {
        return None;
    }
    let setters = setters(bad(pod.spec), &bad_containers);
    violation("hostProcess", format!("{setters} must not set securityContext.windowsOptions.hostProcess=true"))
}

fn allow_privilege_escalation(pod: &Pod, version: Version) -> Option<Violation> {
    if version >= Version(25) && pod.is_windows() {
        return None;
    }
    let bad = pod.bad_containers(|container| container["securityContext"]["allowPrivilegeEscalation"] != false);
    if bad.is_empty() {
        return None;
    }
    violation("allowPrivilegeEscalation != false", format!("{} must set securityContext.allowPrivilegeEscalation=false", containers(&bad)))
}

fn restricted_capabilities(pod: &Pod, version: Version) -> Option<Violation> {
    if version >= Version(25) && pod.is_windows() {
        return None;
    }
    let keeping = pod.bad_containers(|container| !items(&container["securityContext"]["capabilities"]["drop"]).iter().any(|dropped| dropped == "ALL"));
    let (adding, forbidden) = added_capabilities(pod, &["NET_BIND_SERVICE"]);
    let mut details = Vec::new();
    if !keeping.is_empty() {
        details.push(format!("{} must set securityContext.capabilities.drop=[\"ALL\"]", containers(&keeping)));
    }
    if !adding.is_empty() {
        details.push(format!("{} must not include {} in securityContext.capabilities.add", containers(&adding), quoted(forbidden)));
    }
    if details.is_empty() { None } else { violation("unrestricted capabilities", details.join("; ")) }
}

fn restricted_volumes(pod: &Pod, _: Version) -> Option<Violation> {
    const ALLOWED: [&str; 9] = ["configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim", "projected", "secret"];
    let (mut bad, mut types) = (Vec::new(), BTreeSet::new());
    for volume in items(&pod.spec["volumes"]) {
        let sources: Vec<&str> =
            volume.as_object().into_iter().flatten().filter(|(key, value)| *key != "name" && !value.is_null()).map(|(key, _)| key.as_str()).collect();
        if !sources.iter().any(|source| ALLOWED.contains(source)) {
            bad.push(name(volume));
            types.insert((*sources.first().unwrap_or(&"unknown")).to_owned());
        }
    }
    if bad.is_empty() {
        return None;
    }
    let uses = plural("uses", "use", bad.len());
    let kinds = plural("restricted volume type", "restricted volume types", types.len());
    let volumes = plural("volume", "volumes", bad.len());
    violation("restricted volume types", format!("{volumes} {} {uses} {kinds} {}", quoted(bad), quoted(types)))
}

fn run_as_non_root(pod: &Pod, version: Version) -> Option<Violation> {
    if version >= Version(35) && pod.has_user_namespace() {
        return None;
    }
    let says = |context: &Value| context["securityContext"]["runAsNonRoot"].as_bool();
    let explicit = pod.bad_containers(|container| says(container) == Some(false));
    if says(pod.spec) == Some(false) || !explicit.is_empty() {
        let setters = setters(says(pod.spec) == Some(false), &explicit);
        return violation("runAsNonRoot != true", format!("{setters} must not set securityContext.runAsNonRoot=false"));
    }
    let implicit = pod.bad_containers(|container| says(container).is_none() && says(pod.spec).is_none());
    if implicit.is_empty() {
        return None;
    }
    violation("runAsNonRoot != true", format!("pod or {} must set securityContext.runAsNonRoot=true", containers(&implicit)))
}

fn run_as_user(pod: &Pod, version: Version) -> Option<Violation> {
    if version >= Version(35) && pod.has_user_namespace() {
        return None;
    }
    let bad = |context: &Value| context["securityContext"]["runAsUser"] == 0;
    let bad_containers = pod.bad_containers(bad);
    if !bad(pod.spec) && bad_containers.is_empty() {
        return None;
    }
    violation("runAsUser=0", format!("{} must not set runAsUser=0", setters(bad(pod.spec), &bad_containers)))
}

fn restricted_seccomp(pod: &Pod, version: Version) -> Option<Violation> {
    if version >= Version(25) && pod.is_windows() {
        return None;
    }
    if let Some(bad) = bad_seccomp(pod) {
        return Some(bad);
    }
    let set = |context: &Value| context["securityContext"]["seccompProfile"].is_object();
    let missing = pod.bad_containers(|container| !set(container) && !set(pod.spec));
    if missing.is_empty() {
        return None;
    }
    let detail = format!("pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"", containers(&missing));
    violation("seccompProfile", detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(level: Level, spec: Value, want: &str) {
        let standard = Standard { level, version: Version::LATEST };
        assert_eq!(details(&violations(standard, &Value::Null, &spec)), want, "{spec}");
    }

    /// One container `a` with this security context.
    fn context(context: Value) -> Value {
        json!({"containers": [{"name": "a", "securityContext": context}]})
    }

    fn with(mut spec: Value, key: &str, value: Value) -> Value {
        spec[key] = value;
        spec
    }

    #[test]
    fn baseline_refuses_known_escalations() {
        let plain = || context(json!({}));
        for (spec, want) in [
            (plain(), ""),
            (with(plain(), "hostNetwork", json!(true)), "host namespaces (hostNetwork=true)"),
            (with(plain(), "volumes", json!([{"name": "v", "hostPath": {}}])), "hostPath volumes (volume \"v\")"),
            (context(json!({"privileged": true})), "privileged (container \"a\" must not set securityContext.privileged=true)"),
            (
                context(json!({"capabilities": {"add": ["NET_RAW", "CHOWN"]}})),
                "non-default capabilities (container \"a\" must not include \"NET_RAW\" in securityContext.capabilities.add)",
            ),
            (
                json!({"containers": [{"name": "a", "ports": [{"hostPort": 80}]}, {"name": "b", "ports": [{"hostPort": 81}]}]}),
                "hostPort (containers \"a\", \"b\" use hostPorts 80, 81)",
            ),
            (
                json!({"containers": [{"name": "a", "livenessProbe": {"httpGet": {"host": "127.0.0.1"}}}]}),
                "probe or lifecycle host (container \"a\" uses probe or lifecycle host \"127.0.0.1\")",
            ),
            (context(json!({"procMount": "Unmasked"})), "procMount (container \"a\" must not set securityContext.procMount to \"Unmasked\")"),
            (
                with(context(json!({"seccompProfile": {"type": "Unconfined"}})), "securityContext", json!({"seccompProfile": {"type": "Unconfined"}})),
                "seccompProfile (pod and container \"a\" must not set securityContext.seccompProfile.type to \"Unconfined\")",
            ),
            (
                context(json!({"seLinuxOptions": {"type": "spc_t", "user": "u"}})),
                "seLinuxOptions (container \"a\" set forbidden securityContext.seLinuxOptions: type \"spc_t\"; user may not be set)",
            ),
            (with(plain(), "securityContext", json!({"sysctls": [{"name": "kernel.msgmax"}]})), "forbidden sysctls (kernel.msgmax)"),
            (
                context(json!({"appArmorProfile": {"type": "Unconfined"}})),
                "forbidden AppArmor profile (container \"a\" must not set AppArmor profile type to \"Unconfined\")",
            ),
            (
                with(plain(), "securityContext", json!({"windowsOptions": {"hostProcess": true}})),
                "hostProcess (pod must not set securityContext.windowsOptions.hostProcess=true)",
            ),
        ] {
            check(Level::Baseline, spec.clone(), want);
            check(Level::Privileged, spec, "");
        }
    }

    #[test]
    fn restricted_demands_what_hardens() {
        let good =
            json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}});
        let but = |key: &str, value: Value| context(with(good.clone(), key, value));
        let plain = "allowPrivilegeEscalation != false (container \"a\" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container \"a\" must set securityContext.capabilities.drop=[\"ALL\"]), runAsNonRoot != true (pod or container \"a\" must set securityContext.runAsNonRoot=true), seccompProfile (pod or container \"a\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")";
        for (spec, want) in [
            (context(good.clone()), ""),
            (context(json!({})), plain),
            (but("runAsNonRoot", json!(false)), "runAsNonRoot != true (container \"a\" must not set securityContext.runAsNonRoot=false)"),
            (but("runAsUser", json!(0)), "runAsUser=0 (container \"a\" must not set runAsUser=0)"),
            (
                but("capabilities", json!({"drop": ["ALL"], "add": ["CHOWN"]})),
                "unrestricted capabilities (container \"a\" must not include \"CHOWN\" in securityContext.capabilities.add)",
            ),
            (
                with(context(good.clone()), "volumes", json!([{"name": "v", "hostPath": {}}, {"name": "w", "emptyDir": {}}])),
                "restricted volume types (volume \"v\" uses restricted volume type \"hostPath\")",
            ),
            (with(but("runAsUser", json!(0)), "hostUsers", json!(false)), ""),
        ] {
            check(Level::Restricted, spec, want);
        }
    }

    #[test]
    fn a_pinned_version_knows_only_the_controls_of_its_time() {
        let standard = |minor| Standard { level: Level::Restricted, version: Version(minor) };
        let reasons = |minor, spec: &Value| violations(standard(minor), &Value::Null, spec).into_iter().map(|v| v.reason).collect::<Vec<_>>();
        assert_eq!(reasons(7, &context(json!({}))), ["runAsNonRoot != true"]);
        assert_eq!(reasons(19, &context(json!({}))), ["allowPrivilegeEscalation != false", "runAsNonRoot != true", "seccompProfile"]);
    }
}
