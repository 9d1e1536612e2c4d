//! Validation of a PodSpec, wherever it stands: what upstream's ValidatePodSpec refuses.
use super::{affinity, containers, scheduling, security, volumes};
use crate::check::resources::{self, Owner};
use crate::check::{At, Report, metadata, network};
use crate::fields::Read;
use crate::quantities;
use api_meta::{FieldErrors, names};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What the checks of a spec's parts need to know of the whole.
pub struct Surroundings<'a> {
    pub volumes: BTreeMap<&'a str, &'a Value>,
    pub claims: BTreeSet<&'a str>,
    pub grace_seconds: Option<i64>,
    pub restart_policy: &'a str,
    pub host_users: bool,
    /// The pod's `os.name`.
    pub system: &'a str,
    /// Whether the spec is a pod's own, not a template's.
    pub is_pod: bool,
}

const DNS_POLICIES: &[&str] = &["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"];
const RESTART_POLICIES: &[&str] = &["Always", "OnFailure", "Never"];

/// A PodSpec. `pod_name` is the pod's, when there is one to derive claim names from.
pub fn pod_spec(errors: &mut FieldErrors, spec: &At, pod_name: Option<&str>) {
    let surroundings = Surroundings {
        volumes: spec["volumes"].list().iter().map(|volume| (volume["name"].text(), volume)).collect(),
        claims: spec["resourceClaims"].list().iter().map(|claim| claim["name"].text()).filter(|name| !name.is_empty()).collect(),
        grace_seconds: spec["terminationGracePeriodSeconds"].int(),
        restart_policy: spec["restartPolicy"].text(),
        host_users: spec["hostUsers"].as_bool().unwrap_or(true),
        system: spec["os"]["name"].text(),
        is_pod: pod_name.is_some(),
    };
    if surroundings.grace_seconds.is_none() {
        errors.required(&spec.field("terminationGracePeriodSeconds"), "");
    }
    volumes::volumes(errors, &spec.field("volumes"), pod_name);
    resource_claims(errors, &spec.field("resourceClaims"));
    containers::containers(errors, spec, &surroundings);
    containers::init_containers(errors, spec, &surroundings);
    containers::ephemeral_containers(errors, spec, &surroundings);
    pod_level_resources(errors, spec);
    host_network_ports(errors, spec, surroundings.is_pod);
    errors.one_of(&spec.field("restartPolicy"), RESTART_POLICIES);
    errors.one_of(&spec.field("dnsPolicy"), DNS_POLICIES);
    metadata::labels(errors, &spec.field("nodeSelector"));
    security::pod(errors, spec);
    affinity::affinity(errors, &spec.field("affinity"));
    dns_config(errors, spec);
    scheduling::readiness_gates(errors, &spec.field("readinessGates"));
    scheduling::scheduling_gates(errors, &spec.field("schedulingGates"));
    scheduling::topology_spread(errors, &spec.field("topologySpreadConstraints"));
    security::host_users(errors, spec);
    for (field, rule) in [
        ("serviceAccountName", names::dns1123_subdomain as fn(&str) -> Vec<String>),
        ("nodeName", names::dns1123_subdomain),
        ("hostname", names::dns1123_label),
        ("subdomain", names::dns1123_label),
        ("priorityClassName", names::dns1123_subdomain),
        ("runtimeClassName", names::dns1123_subdomain),
    ] {
        errors.named_if_set(&spec.field(field), rule);
    }
    hostname_override(errors, spec);
    let deadline = spec.field("activeDeadlineSeconds");
    if deadline.int().is_some_and(|seconds| !(1..=i64::from(i32::MAX)).contains(&seconds)) {
        errors.invalid(&deadline, "must be between 1 and 2147483647, inclusive");
    }
    scheduling::tolerations(errors, &spec.field("tolerations"));
    host_aliases(errors, &spec.field("hostAliases"));
    errors.one_of_if_set(&spec.field("preemptionPolicy"), &["PreemptLowerPriority", "Never"]);
    let overhead = spec.field("overhead");
    for (name, amount) in overhead.entries() {
        resources::amount_of(errors, &amount, name);
    }
    security::operating_system(errors, spec);
}

/// What holds for pods beyond what holds for templates.
pub fn pod_only(errors: &mut FieldErrors, spec: &At) {
    if spec["serviceAccountName"].text().is_empty() {
        let volumes = spec.field("volumes");
        for volume in volumes.items() {
            let sources = volume.field("projected.sources");
            for source in sources.items() {
                let token = source.field("serviceAccountToken");
                if token.is_set() {
                    errors.forbidden(&token, "must not be specified when serviceAccountName is not set");
                }
            }
        }
    }
    for list in ["containers", "initContainers"] {
        let list = spec.field(list);
        for container in list.items() {
            containers::trimmed_image(errors, &container);
        }
    }
}

fn resource_claims(errors: &mut FieldErrors, at: &At) {
    let mut seen = BTreeSet::new();
    for claim in at.items() {
        let name = claim.field("name");
        errors.named(&name, names::dns1123_label);
        if !name.text().is_empty() && !seen.insert(name.text().to_owned()) {
            errors.duplicate(&name);
        }
        let (by_name, by_template) = (claim.field("resourceClaimName"), claim.field("resourceClaimTemplateName"));
        match (by_name.is_set(), by_template.is_set()) {
            (true, true) => errors.invalid(&claim, "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"),
            (false, false) => errors.invalid(&claim, "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"),
            _ => {}
        }
        for reference in [by_name, by_template] {
            if reference.is_set() {
                errors.reasons(&reference, names::dns1123_subdomain(reference.text()));
            }
        }
    }
}

fn pod_level_resources(errors: &mut FieldErrors, spec: &At) {
    let whole = spec.field("resources");
    if whole.is_null() {
        return;
    }
    if whole["claims"].is_set() {
        errors.forbidden(&whole.field("claims"), "claims cannot be set for Resources at pod-level");
    }
    resources::requirements(errors, &whole, Owner::Pod, &BTreeSet::new());
    let requests = whole.field("requests");
    for (name, sum) in super::qos::container_requests(spec) {
        if !quantities::is_pod_level(&name) {
            continue;
        }
        if quantities::read(&requests[name.as_str()]).is_some_and(|asked| sum > asked) {
            errors.invalid(&requests.key(&name), format!("must be greater than or equal to aggregate container requests of {sum}"));
        }
    }
    let containers = whole.field("containers");
    for (index, container) in spec["containers"].list().iter().enumerate() {
        for (name, limit) in quantities::map(&container["resources"]["limits"]) {
            if let Some(most) = quantities::read(&whole["limits"][name])
                && limit > most
            {
                let place = containers.index(index);
                let place = place.key(name);
                errors.invalid_as(&place.field("limits"), limit.to_string(), format!("must be less than or equal to pod limits of {most}"));
            }
        }
    }
}

/// On the host's network a port is the host's own.
fn host_network_ports(errors: &mut FieldErrors, spec: &At, is_pod: bool) {
    if !spec["hostNetwork"].flag() {
        return;
    }
    let containers = spec.field("containers");
    for container in containers.items() {
        let ports = container.field("ports");
        for port in ports.items() {
            let (host, own) = (port["hostPort"].int().unwrap_or_default(), port["containerPort"].int().unwrap_or_default());
            if (is_pod || host != 0) && host != own {
                errors.invalid_as(&port.field("hostPort"), host, "must match `containerPort` when `hostNetwork` is true");
            }
        }
    }
}

fn dns_config(errors: &mut FieldErrors, spec: &At) {
    const MOST_SERVERS: usize = 3;
    const MOST_SEARCHES: usize = 32;
    const MOST_SEARCH_CHARACTERS: usize = 2048;
    let config = spec.field("dnsConfig");
    let (servers, searches, options) = (config.field("nameservers"), config.field("searches"), config.field("options"));
    if spec["dnsPolicy"] == "None" {
        if config.is_null() {
            return errors.required(&config, "must provide `dnsConfig` when `dnsPolicy` is None");
        }
        if servers.list().is_empty() {
            return errors.required(&servers, "must provide at least one DNS nameserver when `dnsPolicy` is None");
        }
    }
    if servers.list().len() > MOST_SERVERS {
        errors.invalid(&servers, format!("must not have more than {MOST_SERVERS} nameservers"));
    }
    for server in servers.items() {
        network::ip(errors, &server);
    }
    if searches.list().len() > MOST_SEARCHES {
        errors.invalid(&searches, format!("must not have more than {MOST_SEARCHES} search paths"));
    }
    if searches.texts().map(|search| search.len() + 1).sum::<usize>() > MOST_SEARCH_CHARACTERS + 1 {
        errors.invalid(&searches, format!("must not have more than {MOST_SEARCH_CHARACTERS} characters (including spaces) in the search list"));
    }
    for search in searches.items() {
        let name = search.text();
        if name != "." {
            errors.reasons(&search, search_domain(name.strip_suffix('.').unwrap_or(name)));
        }
    }
    for option in options.items() {
        if option["name"].text().is_empty() {
            errors.required(&option, "must not be empty");
        }
    }
}

/// A host name that is not derived from the pod's own.
fn hostname_override(errors: &mut FieldErrors, spec: &At) {
    // As much as the kernel takes.
    const LONGEST: usize = 64;
    let name = spec.field("hostnameOverride");
    if name.is_null() {
        return;
    }
    errors.reasons(&name, names::dns1123_subdomain(name.text()));
    if name.text().len() > LONGEST {
        errors.too_long(&name, LONGEST);
    }
    if spec["setHostnameAsFQDN"].flag() {
        errors.forbidden(&name, "may not be specified when setHostnameAsFQDN is true");
    }
    if spec["hostNetwork"].flag() {
        errors.forbidden(&name, "may not be specified when hostNetwork is true");
    }
}

fn host_aliases(errors: &mut FieldErrors, at: &At) {
    for alias in at.items() {
        network::ip(errors, &alias.field("ip"));
        let hostnames = alias.field("hostnames");
        for hostname in hostnames.items() {
            errors.reasons(&hostname, names::dns1123_subdomain(hostname.text()));
        }
    }
}

/// A subdomain that may also have underscores, as names of services do.
fn search_domain(name: &str) -> Vec<String> {
    let edge = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'_');
    let label = |label: &str| {
        let bytes = label.as_bytes();
        edge(bytes.first()) && edge(bytes.last()) && bytes.iter().all(|byte| edge(Some(byte)) || *byte == b'-')
    };
    let mut reasons = Vec::new();
    if name.len() > 253 {
        reasons.push("must be no more than 253 bytes".into());
    }
    if !name.split('.').all(label) {
        reasons.push("a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9_]([-_a-z0-9]*[a-z0-9_])?(\\.[a-z0-9_]([-_a-z0-9]*[a-z0-9_])?)*')".into());
    }
    reasons
}
