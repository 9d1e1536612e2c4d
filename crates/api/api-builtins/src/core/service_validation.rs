//! Validation of Services: ports, types and what each type allows, addresses, and what stays as it was.
use super::service_fields::{externally_accessible, needs_cluster_ip, needs_health_check_node_port};
use crate::check::{At, Report, metadata, network};
use crate::fields::Read;
use api_meta::{FieldErrors, names};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const TYPES: &[&str] = &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const MOST_AFFINITY_SECONDS: i64 = 86_400;

pub fn service(new: &Value, old: Option<&Value>) -> FieldErrors {
    let mut all = FieldErrors::new();
    let errors = &mut all;
    let root = At::root(new);
    let spec = root.field("spec");
    if let Some(old) = old {
        update(errors, &spec, &old["spec"]);
    }
    let (kind, headless) = (spec["type"].text(), spec["clusterIP"] == "None");
    if spec["ports"].list().is_empty() && !headless && kind != "ExternalName" {
        errors.required(&spec.field("ports"), "");
    }
    by_type(errors, &spec, kind);
    ports(errors, &spec, kind);
    metadata::labels(errors, &spec.field("selector"));
    session_affinity(errors, &spec);
    addresses(errors, &spec);
    errors.one_of(&spec.field("type"), TYPES);
    source_ranges(errors, &spec, kind);
    load_balancer(errors, &spec, kind, old);
    traffic_policies(errors, &spec, kind);
    all
}

fn by_type(errors: &mut FieldErrors, spec: &At, kind: &str) {
    let addresses = spec.field("clusterIPs");
    match kind {
        "LoadBalancer" => {
            let ports = spec.field("ports");
            for port in ports.items() {
                // A port the kubelet listens on would be taken over by the balancer.
                if port["port"] == 10250 {
                    errors.invalid_as(&port, 10250, "may not expose port 10250 externally since it is used by kubelet");
                }
            }
            if spec["clusterIP"] == "None" {
                errors.invalid(&addresses.index(0), "may not be set to 'None' for LoadBalancer services");
            }
        }
        "NodePort" if spec["clusterIP"] == "None" => errors.invalid(&addresses.index(0), "may not be set to 'None' for NodePort services"),
        "ExternalName" => {
            for field in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
                if !spec[field].is_zero() {
                    errors.forbidden(&spec.field(field), "may not be set for ExternalName services");
                }
            }
            let name = spec.field("externalName");
            match name.text().strip_suffix('.').unwrap_or(name.text()) {
                "" => errors.required(&name, ""),
                text => errors.reasons(&name, names::dns1123_subdomain(text)),
            }
        }
        _ => {}
    }
}

fn ports(errors: &mut FieldErrors, spec: &At, kind: &str) {
    let ports = spec.field("ports");
    let (mut seen_names, mut seen_node_ports, mut seen_ports) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for port in ports.items() {
        let name = port.field("name");
        if ports.list().len() > 1 && name.text().is_empty() {
            errors.required(&name, "");
        } else if !name.text().is_empty() {
            errors.reasons(&name, names::dns1123_label(name.text()));
            if !seen_names.insert(name.text().to_owned()) {
                errors.duplicate(&name);
            }
        }
        network::port(errors, &port.field("port"));
        errors.one_of(&port.field("protocol"), network::PROTOCOLS);
        network::port_or_name(errors, &port.field("targetPort"));
        errors.named_if_set(&port.field("appProtocol"), names::qualified_name);
    }
    for port in ports.items() {
        let (protocol, number, node_port) = (port["protocol"].text().to_owned(), port["port"].int().unwrap_or_default(), port.field("nodePort"));
        if let Some(node) = node_port.int().filter(|port| *port != 0) {
            if kind == "ClusterIP" {
                errors.forbidden(&node_port, "may not be used when `type` is 'ClusterIP'");
            }
            if !seen_node_ports.insert((protocol.clone(), node)) {
                errors.duplicate(&node_port);
            }
        }
        if !seen_ports.insert((protocol.clone(), number)) {
            errors.duplicate_as(&port, json!({"port": number, "protocol": protocol, "targetPort": 0}));
        }
    }
}

fn session_affinity(errors: &mut FieldErrors, spec: &At) {
    const REASON: &str = "when session affinity type is ClientIP";
    let (affinity, config) = (spec.field("sessionAffinity"), spec.field("sessionAffinityConfig"));
    errors.one_of(&affinity, &["ClientIP", "None"]);
    match affinity.text() {
        "ClientIP" => {
            let seconds = config.field("clientIP.timeoutSeconds");
            match seconds.int() {
                None if config.is_null() => errors.required(&config, REASON),
                None if config["clientIP"].is_null() => errors.required(&config.field("clientIP"), REASON),
                None => errors.required(&seconds, REASON),
                Some(1..=MOST_AFFINITY_SECONDS) => {}
                Some(_) => errors.invalid(&seconds, format!("must be greater than 0 and less than {MOST_AFFINITY_SECONDS}")),
            }
        }
        "None" if config.is_set() => errors.forbidden(&config, "must not be set when session affinity is None"),
        _ => {}
    }
}

fn addresses(errors: &mut FieldErrors, spec: &At) {
    let external = spec.field("externalIPs");
    for address in external.items() {
        network::routable(errors, &address);
    }
    let (one, all, families) = (spec.field("clusterIP"), spec.field("clusterIPs"), spec.field("ipFamilies"));
    errors.one_of_if_set(&spec.field("ipFamilyPolicy"), &["PreferDualStack", "RequireDualStack", "SingleStack"]);
    for (index, family) in families.items().enumerate() {
        errors.one_of(&family, &["IPv4", "IPv6"]);
        if families.list()[..index].contains(&family) {
            errors.duplicate(&family);
        }
    }
    if !needs_cluster_ip(spec) {
        return;
    }
    if !one.text().is_empty() && all.list().is_empty() {
        errors.required(&all, "");
    } else if !all.list().is_empty() && all[0] != *one.value() {
        errors.invalid(&all, "first value must match `clusterIP`");
    }
    if all.list().len() > 2 {
        errors.invalid(&all, "may only hold up to 2 values");
    }
    let mut stacks = Vec::new();
    for address in all.items() {
        match address.text() {
            "None" if all.list().len() > 1 => errors.invalid(&all, "'None' must be the first and only value"),
            "None" => {}
            "" => errors.required(&address, ""),
            _ => stacks.extend(network::ip(errors, &address).map(|address| address.is_ipv4())),
        }
    }
    network::one_of_each_family(errors, &all, &stacks, "may specify no more than one IP for each IP family");
    for (index, is_v4) in stacks.iter().enumerate() {
        let family = if *is_v4 { "IPv4" } else { "IPv6" };
        if families.list().get(index).is_some_and(|declared| declared != family) {
            errors.invalid(&all.index(index), format!("expected an {} value as indicated by `ipFamilies[{index}]`", families[index].text()));
        }
    }
}

fn source_ranges(errors: &mut FieldErrors, spec: &At, kind: &str) {
    let ranges = At::new(&spec["loadBalancerSourceRanges"], "spec.LoadBalancerSourceRanges");
    if !ranges.list().is_empty() && kind != "LoadBalancer" {
        errors.forbidden(&ranges, "may only be used when `type` is 'LoadBalancer'");
    }
    for range in ranges.items() {
        network::cidr(errors, &range);
    }
}

fn load_balancer(errors: &mut FieldErrors, spec: &At, kind: &str, old: Option<&Value>) {
    let (allocate, class) = (spec.field("allocateLoadBalancerNodePorts"), spec.field("loadBalancerClass"));
    if allocate.is_set() && kind != "LoadBalancer" {
        errors.forbidden(&allocate, "may only be used when `type` is 'LoadBalancer'");
    }
    if allocate.is_null() && kind == "LoadBalancer" {
        errors.push(api_meta::FieldError::required(&api_meta::FieldPath::new("allocateLoadBalancerNodePorts"), ""));
    }
    if class.is_set() {
        if kind != "LoadBalancer" {
            errors.forbidden(&class, "may only be used when `type` is 'LoadBalancer'");
        }
        errors.reasons(&class, names::qualified_name(class.text()));
    }
    if let Some(old) = old.map(|old| &old["spec"])
        && kind == "LoadBalancer"
        && old["type"] == "LoadBalancer"
        && old["loadBalancerClass"] != *class.value()
    {
        errors.invalid(&class, "may not change once set");
    }
}

fn traffic_policies(errors: &mut FieldErrors, spec: &At, kind: &str) {
    const POLICIES: &[&str] = &["Cluster", "Local"];
    let (external, internal, health) = (spec.field("externalTrafficPolicy"), spec.field("internalTrafficPolicy"), spec.field("healthCheckNodePort"));
    if externally_accessible(spec) {
        errors.one_of(&external, POLICIES);
    } else if !external.text().is_empty() {
        errors.invalid(&external, "may only be set for externally-accessible services");
    }
    let port = health.int().unwrap_or_default();
    if needs_health_check_node_port(spec) {
        if port != 0 {
            network::port(errors, &health);
        }
    } else if port != 0 {
        errors.invalid(&health, "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'");
    }
    if internal.is_set() {
        errors.one_of(&internal, POLICIES);
    } else if kind != "ExternalName" && TYPES.contains(&kind) {
        errors.required(&internal, "");
    }
    let distribution = spec.field("trafficDistribution");
    if distribution.is_set() && !matches!(distribution.text(), "PreferClose" | "PreferSameZone" | "PreferSameNode") {
        errors.not_supported(&distribution, &["PreferClose", "PreferSameNode", "PreferSameZone"]);
    }
}

/// Addresses, once given, stay while the Service has any use for them.
fn update(errors: &mut FieldErrors, spec: &At, old: &Value) {
    if needs_cluster_ip(spec) && needs_cluster_ip(old) {
        for index in 0..2 {
            let (before, at) = (old["clusterIPs"][index].text(), spec.field("clusterIPs"));
            let at = at.index(index);
            let kept = at.text() == before;
            // The second address and family may come and go; the first one stays.
            if before.is_empty() || kept || (index == 1 && at.text().is_empty()) {
                continue;
            }
            // Upstream shows all of them.
            errors.invalid_as(&at, spec["clusterIPs"].clone(), "may not change once set");
        }
        let headless = |spec: &Value| spec["clusterIP"] == "None";
        let (before, families) = (old["ipFamilies"][0].text(), spec.field("ipFamilies"));
        // Endpoints alone depend on the families of a headless one.
        if !headless(spec) && !headless(old) && !before.is_empty() && !families[0].text().is_empty() && families[0].text() != before {
            errors.invalid_as(&families.index(0), families.value().clone(), "may not change once set");
        }
    }
    if needs_health_check_node_port(old) && needs_health_check_node_port(spec) && old["healthCheckNodePort"] != spec["healthCheckNodePort"] {
        errors.forbidden(&spec.field("healthCheckNodePort"), "field is immutable");
    }
}
