//! The configuration of a pod's sandbox for the runtime.
use super::containers::{is_host_network, spec};
use super::dns::{DnsSettings, dns};
use super::hosts_file::host_name;
use super::identity::{CLUSTER_LABEL, POD_NAME_LABEL, POD_NAMESPACE_LABEL, POD_UID_LABEL, PodId, name, namespace};
use super::resources::pod_resources;
use super::security::sandbox_security;
use cri::v1::{LinuxPodSandboxConfig, PodSandboxConfig, PodSandboxMetadata, PortMapping, Protocol};
use k8s_openapi::api::core::v1::Pod;
use std::collections::BTreeMap;
use std::path::Path;

/// What beside the pod shapes its sandbox.
#[derive(Debug)]
pub struct SandboxInput<'a> {
    pub id: &'a PodId,
    pub pod: &'a Pod,
    pub attempt: u32,
    pub log_directory: &'a Path,
    pub cgroup_parent: String,
    pub dns: &'a DnsSettings,
    pub seccomp_root: &'a Path,
}

/// The configuration. INVARIANT: for one pod and attempt it is always the same, since CRI wants it again with each container.
pub fn sandbox_config(input: &SandboxInput<'_>) -> PodSandboxConfig {
    let (id, pod) = (input.id, input.pod);
    let mut labels: BTreeMap<String, String> = pod.metadata.labels.clone().unwrap_or_default();
    labels.extend(pod_labels(id, pod));
    let mut annotations = pod.metadata.annotations.clone().unwrap_or_default();
    // CNI plugins see annotations, not labels.
    annotations.insert(CLUSTER_LABEL.into(), id.cluster.to_string());
    annotations.insert("kubernetes.io/config.source".into(), "api".into());
    let sysctls = spec(pod).security_context.iter().flat_map(|c| c.sysctls.iter().flatten());
    PodSandboxConfig {
        metadata: Some(PodSandboxMetadata { name: name(pod).into(), uid: id.uid.to_string(), namespace: namespace(pod).into(), attempt: input.attempt }),
        hostname: if is_host_network(pod) { String::new() } else { host_name(pod, &input.dns.cluster_domain) },
        log_directory: input.log_directory.to_string_lossy().into_owned(),
        dns_config: Some(dns(pod, input.dns)),
        port_mappings: port_mappings(pod),
        labels,
        annotations,
        linux: Some(LinuxPodSandboxConfig {
            cgroup_parent: input.cgroup_parent.clone(),
            security_context: Some(sandbox_security(pod, input.seccomp_root)),
            // Sysctls of the API may have slashes for dots.
            sysctls: sysctls.map(|s| (dotted_sysctl(&s.name), s.value.clone())).collect(),
            overhead: None,
            resources: Some(pod_resources(pod)),
        }),
    }
}

/// The labels of all that belongs to a pod.
pub fn pod_labels(id: &PodId, pod: &Pod) -> BTreeMap<String, String> {
    [(CLUSTER_LABEL, id.cluster.as_str()), (POD_NAME_LABEL, name(pod)), (POD_NAMESPACE_LABEL, namespace(pod)), (POD_UID_LABEL, &id.uid)]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

/// `net/ipv4/x` and `net.ipv4.x` are one; an interface's name may hold the other separator.
pub fn dotted_sysctl(name: &str) -> String {
    match name.find(['.', '/']) {
        Some(at) if name.as_bytes()[at] == b'/' => name
            .chars()
            .map(|c| {
                if c == '/' {
                    '.'
                } else if c == '.' {
                    '/'
                } else {
                    c
                }
            })
            .collect(),
        _ => name.to_owned(),
    }
}

fn port_mappings(pod: &Pod) -> Vec<PortMapping> {
    if is_host_network(pod) {
        return Vec::new();
    }
    let containers = spec(pod).containers.iter().chain(spec(pod).init_containers.iter().flatten().filter(|c| super::containers::is_sidecar(c)));
    let ports = containers.flat_map(|c| c.ports.iter().flatten());
    ports
        .map(|port| PortMapping {
            protocol: match port.protocol.as_deref() {
                Some("UDP") => Protocol::Udp,
                Some("SCTP") => Protocol::Sctp,
                _ => Protocol::Tcp,
            }
            .into(),
            container_port: port.container_port,
            host_port: port.host_port.unwrap_or(0),
            host_ip: port.host_ip.clone().unwrap_or_default(),
        })
        .collect()
}
