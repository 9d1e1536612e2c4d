//! Which fields a Service's type needs, and what an update does to fields that were allocated.
use crate::fields::{Fill, Read};
use serde_json::Value;

/// Whether traffic from outside can reach it.
pub fn externally_accessible(spec: &Value) -> bool {
    match spec["type"].text() {
        "LoadBalancer" | "NodePort" => true,
        "ClusterIP" => !spec["externalIPs"].list().is_empty(),
        _ => false,
    }
}

pub fn needs_cluster_ip(spec: &Value) -> bool {
    matches!(spec["type"].text(), "ClusterIP" | "NodePort" | "LoadBalancer")
}

pub fn needs_node_port(spec: &Value) -> bool {
    match spec["type"].text() {
        "NodePort" => true,
        "LoadBalancer" => spec["allocateLoadBalancerNodePorts"].as_bool().unwrap_or(true),
        _ => false,
    }
}

pub fn needs_health_check_node_port(spec: &Value) -> bool {
    spec["type"] == "LoadBalancer" && spec["externalTrafficPolicy"] == "Local"
}

/// Keeps `clusterIP` and `clusterIPs` in step for clients that know only one of them.
pub fn normalize_cluster_ips(new: &mut Value, old: &Value) {
    let (new_one, old_one) = (new["clusterIP"].text().to_owned(), old["clusterIP"].text());
    if new_one != old_one {
        // An old client cleared or changed the one field it knows.
        let same_list = new["clusterIPs"].list() == old["clusterIPs"].list();
        if new_one.is_empty() && same_list {
            new.remove("clusterIPs");
        } else if !new_one.is_empty() && (same_list || new["clusterIPs"].list().is_empty()) {
            new.put("clusterIPs", vec![Value::from(new_one)]);
        }
    }
}

/// Clears what the new type has no use for, where the user left it as it was.
pub fn drop_what_the_type_has_no_use_for(new: &mut Value, old: &Value) {
    let drop_if_same = |new: &mut Value, key: &str| {
        if new.get(key) == old.get(key) {
            new.remove(key);
        }
    };
    if needs_cluster_ip(old) && !needs_cluster_ip(new) {
        for key in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"] {
            drop_if_same(new, key);
        }
    }
    if needs_node_port(old) && !needs_node_port(new) && node_ports(new) == node_ports(old) {
        new.each("ports").for_each(|port| drop(port.remove("nodePort")));
    }
    if needs_health_check_node_port(old) && !needs_health_check_node_port(new) {
        drop_if_same(new, "healthCheckNodePort");
    }
    if externally_accessible(old) && !externally_accessible(new) {
        drop_if_same(new, "externalTrafficPolicy");
    }
    if old["type"] == "LoadBalancer" && new["type"] != "LoadBalancer" {
        drop_if_same(new, "allocateLoadBalancerNodePorts");
        drop_if_same(new, "loadBalancerClass");
    }
}

fn node_ports(spec: &Value) -> Vec<i64> {
    spec["ports"].list().iter().map(|port| port["nodePort"].int().unwrap_or_default()).collect()
}

/// Carries over what was allocated when an update leaves it out.
pub fn keep_allocated(new: &mut Value, old: &Value) {
    if needs_cluster_ip(old) && needs_cluster_ip(new) {
        if new["clusterIP"].text().is_empty() && !old["clusterIP"].is_null() {
            new.put("clusterIP", old["clusterIP"].clone());
        }
        if new["clusterIPs"].list().is_empty() && new["clusterIP"] == old["clusterIP"] && !old["clusterIPs"].is_null() {
            new.put("clusterIPs", old["clusterIPs"].clone());
        }
    }
    if needs_node_port(old) && needs_node_port(new) {
        let mut used: Vec<i64> = node_ports(new).into_iter().filter(|port| *port != 0).collect();
        for port in new.each("ports").filter(|port| port["nodePort"].is_zero()) {
            let before = old["ports"].list().iter().find(|other| other["protocol"] == port["protocol"] && other["port"] == port["port"]);
            if let Some(number) = before.and_then(|before| before["nodePort"].int()).filter(|number| !used.contains(number)) {
                used.push(number);
                port.put("nodePort", number);
            }
        }
    }
    if needs_health_check_node_port(old) && needs_health_check_node_port(new) && new["healthCheckNodePort"].is_zero() && !old["healthCheckNodePort"].is_null() {
        new.put("healthCheckNodePort", old["healthCheckNodePort"].clone());
    }
}
