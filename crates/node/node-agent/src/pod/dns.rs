//! A pod's resolv.conf, by its dnsPolicy and dnsConfig.
use super::containers::{is_host_network, spec};
use super::identity::namespace;
use cri::v1::DnsConfig;
use k8s_openapi::api::core::v1::Pod;
use std::net::IpAddr;

/// What the cluster and the node give.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DnsSettings {
    pub cluster_dns: Vec<IpAddr>,
    pub cluster_domain: String,
    /// The node's resolv.conf.
    pub host: HostResolver,
}

/// The parts of a resolv.conf.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostResolver {
    pub servers: Vec<String>,
    pub searches: Vec<String>,
    pub options: Vec<String>,
}

impl HostResolver {
    pub fn parse(text: &str) -> Self {
        let mut out = Self::default();
        for line in text.lines() {
            let mut words = line.split(['#', ';']).next().unwrap_or_default().split_whitespace();
            match words.next() {
                Some("nameserver") => out.servers.extend(words.next().map(str::to_owned)),
                // The last search line wins, and so does the last options line.
                Some("search") => out.searches = words.filter(|s| *s != ".").map(|s| s.trim_end_matches('.').to_owned()).collect(),
                Some("options") => out.options = words.map(str::to_owned).collect(),
                _ => {}
            }
        }
        out
    }
}

/// As many as the C library reads.
const MOST_SERVERS: usize = 3;
const MOST_SEARCHES: usize = 32;

/// The sandbox's DNS configuration.
pub fn dns(pod: &Pod, settings: &DnsSettings) -> DnsConfig {
    let host = || DnsConfig { servers: settings.host.servers.clone(), searches: settings.host.searches.clone(), options: settings.host.options.clone() };
    let policy = spec(pod).dns_policy.as_deref().unwrap_or("ClusterFirst");
    let mut out = match policy {
        "None" => DnsConfig::default(),
        "ClusterFirst" if is_host_network(pod) => host(),
        "ClusterFirst" | "ClusterFirstWithHostNet" if !settings.cluster_dns.is_empty() => {
            let domain = &settings.cluster_domain;
            let mut searches = vec![format!("{}.svc.{domain}", namespace(pod)), format!("svc.{domain}"), domain.clone()];
            searches.extend(settings.host.searches.iter().cloned());
            DnsConfig { servers: settings.cluster_dns.iter().map(ToString::to_string).collect(), searches, options: vec!["ndots:5".into()] }
        }
        _ => host(),
    };
    if let Some(more) = &spec(pod).dns_config {
        out.servers.extend(more.nameservers.iter().flatten().cloned());
        out.searches.extend(more.searches.iter().flatten().cloned());
        for option in more.options.iter().flatten() {
            let name = option.name.clone().unwrap_or_default();
            out.options.retain(|o| o.split(':').next() != Some(name.as_str()));
            out.options.push(option.value.as_ref().filter(|v| !v.is_empty()).map_or_else(|| name.clone(), |value| format!("{name}:{value}")));
        }
    }
    for list in [&mut out.servers, &mut out.searches] {
        let mut seen = std::collections::BTreeSet::new();
        list.retain(|entry| seen.insert(entry.clone()));
    }
    out.servers.truncate(MOST_SERVERS);
    out.searches.truncate(MOST_SEARCHES);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(spec: serde_json::Value) -> DnsConfig {
        let settings = DnsSettings {
            cluster_dns: vec!["10.96.0.10".parse().unwrap()],
            cluster_domain: "cluster.local".into(),
            host: HostResolver::parse("nameserver 192.0.2.1\nsearch example.com. svc.cluster.local\noptions edns0 # x\n"),
        };
        dns(&serde_json::from_value(json!({"metadata": {"namespace": "ns"}, "spec": spec})).unwrap(), &settings)
    }

    #[test]
    fn policies_choose_the_resolver() {
        let cluster = of(json!({"containers": []}));
        assert_eq!(cluster.servers, ["10.96.0.10"]);
        assert_eq!(cluster.searches, ["ns.svc.cluster.local", "svc.cluster.local", "cluster.local", "example.com"]);
        assert_eq!(cluster.options, ["ndots:5"]);
        let host = of(json!({"containers": [], "hostNetwork": true}));
        assert_eq!((host.servers, host.options), (vec!["192.0.2.1".to_owned()], vec!["edns0".to_owned()]));
        assert_eq!(of(json!({"containers": [], "hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet"})).servers, ["10.96.0.10"]);
        let own = of(
            json!({"containers": [], "dnsPolicy": "None", "dnsConfig": {"nameservers": ["1.1.1.1"], "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]}}),
        );
        assert_eq!((own.servers, own.options), (vec!["1.1.1.1".to_owned()], vec!["ndots:2".to_owned(), "edns0".to_owned()]));
        assert_eq!(of(json!({"containers": [], "dnsConfig": {"options": [{"name": "ndots", "value": "2"}]}})).options, ["ndots:2"]);
    }
}
