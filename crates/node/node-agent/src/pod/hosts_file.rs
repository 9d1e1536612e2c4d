//! A pod's host name and /etc/hosts, as the kubelet manages them.
use super::containers::spec;
use super::identity::{name, namespace};
use k8s_openapi::api::core::v1::{HostAlias, Pod};
use std::fmt::Write;

const HEADER: &str = "# Kubernetes-managed hosts file.\n";
const HOST_NETWORK_HEADER: &str = "# Kubernetes-managed hosts file (host network).\n";
/// The kernel's limit of a host name.
const LONGEST_NAME: usize = 63;

/// A pod's own name and its domain, "" without a subdomain.
pub fn host_and_domain(pod: &Pod, cluster_domain: &str) -> (String, String) {
    let spec = spec(pod);
    if let Some(whole) = spec.hostname_override.as_ref().filter(|name| !name.is_empty()) {
        return (whole.clone(), String::new());
    }
    let host = match spec.hostname.as_deref() {
        Some(host) if !host.is_empty() => host.to_owned(),
        _ => name(pod).chars().take(LONGEST_NAME).collect::<String>().trim_end_matches(['-', '.']).to_owned(),
    };
    let domain = match spec.subdomain.as_deref() {
        Some(subdomain) if !subdomain.is_empty() => format!("{subdomain}.{}.svc.{cluster_domain}", namespace(pod)),
        _ => String::new(),
    };
    (host, domain)
}

/// What `hostname` answers in the pod.
pub fn host_name(pod: &Pod, cluster_domain: &str) -> String {
    let (host, domain) = host_and_domain(pod, cluster_domain);
    if spec(pod).set_hostname_as_fqdn == Some(true) && !domain.is_empty() { format!("{host}.{domain}") } else { host }
}

/// The file of a pod with a network of its own.
pub fn hosts_file(pod: &Pod, addresses: &[String], cluster_domain: &str) -> String {
    let mut out = String::from(HEADER);
    for line in [
        "127.0.0.1\tlocalhost",
        "::1\tlocalhost ip6-localhost ip6-loopback",
        "fe00::0\tip6-localnet",
        "fe00::0\tip6-mcastprefix",
        "fe00::1\tip6-allnodes",
        "fe00::2\tip6-allrouters",
    ] {
        out.push_str(line);
        out.push('\n');
    }
    let (host, domain) = host_and_domain(pod, cluster_domain);
    for address in addresses {
        let written = if domain.is_empty() { writeln!(out, "{address}\t{host}") } else { writeln!(out, "{address}\t{host}.{domain}\t{host}") };
        written.expect("writing into a String does not fail");
    }
    out + &alias_lines(spec(pod).host_aliases.as_deref().unwrap_or_default())
}

/// The file of a pod in the host's network: the host's own, with the pod's aliases.
pub fn host_network_hosts_file(pod: &Pod, host_file: &str) -> String {
    format!("{HOST_NETWORK_HEADER}{host_file}{}", alias_lines(spec(pod).host_aliases.as_deref().unwrap_or_default()))
}

fn alias_lines(aliases: &[HostAlias]) -> String {
    if aliases.is_empty() {
        return String::new();
    }
    let line = |alias: &HostAlias| format!("{}\t{}\n", alias.ip, alias.hostnames.iter().flatten().cloned().collect::<Vec<_>>().join("\t"));
    format!("\n# Entries added by HostAliases.\n{}", aliases.iter().map(line).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_and_aliases_are_listed() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "web-0", "namespace": "ns"}, "spec": {"containers": [], "subdomain": "web",
            "hostAliases": [{"ip": "192.0.2.7", "hostnames": ["db", "db.local"]}]}}))
        .unwrap();
        let text = hosts_file(&pod, &["10.244.0.2".into()], "cluster.local");
        assert!(text.starts_with("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n"), "{text}");
        let end = "10.244.0.2\tweb-0.web.ns.svc.cluster.local\tweb-0\n\n# Entries added by HostAliases.\n192.0.2.7\tdb\tdb.local\n";
        assert!(text.ends_with(end), "{text}");
        assert_eq!(host_name(&pod, "cluster.local"), "web-0");
        let long: Pod = serde_json::from_value(json!({"metadata": {"name": format!("{}-b", "a".repeat(62))}, "spec": {"containers": []}})).unwrap();
        assert_eq!(host_name(&long, "cluster.local"), "a".repeat(62));
    }
}
