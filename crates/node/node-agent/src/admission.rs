//! Admission: whether this node can run a pod that was bound to it.
use crate::pod::containers::spec;
use crate::pod::resources::pod_request;
use crate::pod::sandbox_config::dotted_sysctl;
use crate::pod::start_history::Waiting;
use crate::pod::status::is_terminal;
use api_meta::Quantity;
use k8s_openapi::api::core::v1::Pod;
use std::collections::BTreeMap;

/// Sysctls that stay within a pod's namespaces and harm nobody else.
const SAFE_SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

/// Why the node refuses the pod, as its status is to say; `None` if it may run. `others` are this node's other pods.
pub fn refusal<'a>(
    pod: &Pod,
    others: impl Iterator<Item = &'a Pod> + Clone,
    allocatable: &BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>,
    allowed_sysctls: &[String],
) -> Option<Waiting> {
    let rejected = |reason: &str, message: String| Some(Waiting { reason: reason.into(), message: format!("Pod was rejected: {message}") });
    for sysctl in spec(pod).security_context.iter().flat_map(|c| c.sysctls.iter().flatten()) {
        let name = dotted_sysctl(&sysctl.name);
        let allowed = |pattern: &String| pattern.strip_suffix('*').map_or(*pattern == name, |prefix| name.starts_with(prefix));
        if !SAFE_SYSCTLS.contains(&name.as_str()) && !allowed_sysctls.iter().any(allowed) {
            return rejected("SysctlForbidden", format!("forbidden sysctl: \"{name}\" not allowlisted"));
        }
    }
    let active = others.filter(|other| !is_terminal(other.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default()));
    let parse = |name: &str| allocatable.get(name).and_then(|q| Quantity::parse(&q.0).ok());
    if let Some(most) = parse("pods") {
        let used = active.clone().count();
        if used as i64 + 1 > most.units() {
            return rejected("OutOfpods", format!("Node didn't have enough resource: pods, requested: 1, used: {used}, capacity: {}", most.units()));
        }
    }
    for name in ["cpu", "memory", "ephemeral-storage"] {
        let requested = pod_request(pod, name);
        let Some(capacity) = parse(name).filter(|_| !requested.is_zero()) else { continue };
        let used = active.clone().map(|other| pod_request(other, name)).fold(Quantity::ZERO, |a, b| a + b);
        if used + requested > capacity {
            let number = |quantity: Quantity| if name == "cpu" { quantity.millis() } else { quantity.units() };
            let (requested, used, capacity) = (number(requested), number(used), number(capacity));
            let message = format!("Node didn't have enough resource: {name}, requested: {requested}, used: {used}, capacity: {capacity}");
            return rejected(&format!("OutOf{name}"), message);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn full_nodes_and_unsafe_sysctls_refuse() {
        let pod = |cpu: &str, phase: &str| -> Pod {
            serde_json::from_value(json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}, "status": {"phase": phase}}))
                .unwrap()
        };
        let allocatable = serde_json::from_value(json!({"cpu": "2", "pods": "2"})).unwrap();
        let check = |pod: &Pod, others: &[Pod]| refusal(pod, others.iter(), &allocatable, &["net.core.*".into()]);
        assert_eq!(check(&pod("1500m", "Pending"), &[pod("500m", "Running")]), None);
        assert_eq!(check(&pod("1500m", "Pending"), &[pod("2", "Succeeded")]), None);
        let refused = check(&pod("1500m", "Pending"), &[pod("600m", "Running")]).unwrap();
        assert_eq!(refused.reason, "OutOfcpu");
        assert_eq!(refused.message, "Pod was rejected: Node didn't have enough resource: cpu, requested: 1500, used: 600, capacity: 2000");
        assert_eq!(check(&pod("1m", ""), &[pod("1m", ""), pod("1m", "")]).unwrap().reason, "OutOfpods");
        let with_sysctl = |name: &str| -> Pod {
            serde_json::from_value(json!({"spec": {"containers": [], "securityContext": {"sysctls": [{"name": name, "value": "1"}]}}})).unwrap()
        };
        assert_eq!(check(&with_sysctl("kernel.msgmax"), &[]).unwrap().message, "Pod was rejected: forbidden sysctl: \"kernel.msgmax\" not allowlisted");
        assert_eq!(check(&with_sysctl("net.core.somaxconn"), &[]), None);
        assert_eq!(check(&with_sysctl("net/ipv4/tcp_syncookies"), &[]), None);
    }
}
