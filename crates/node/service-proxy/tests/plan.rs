//! What Services and Pods ask for, case by case.
#![allow(clippy::unwrap_used, reason = "a test may")]
use api_cache::Held;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};
use service_proxy::{ProxySettings, Rules, host_port_rules, service_rules};
use std::sync::Arc;

fn settings() -> ProxySettings {
    ProxySettings::new("n1", "10.244.0.0/16".parse().unwrap())
}

/// One line a frontend: `frontend translation backends... [| outside backends...] [options]`; local backends bear a star.
fn show(rules: &Rules) -> String {
    let backends = |set: &std::collections::BTreeSet<service_proxy::Backend>| {
        set.iter().map(|b| format!(" {}{}", b.at, if b.local { "*" } else { "" })).collect::<String>()
    };
    let mut lines: Vec<String> = Vec::new();
    for (frontend, target) in &rules.frontends {
        let mut line = format!("{frontend} {:?}{}", target.translation, backends(&target.backends));
        if let Some(outside) = &target.outside {
            line += &format!(" |{}", backends(outside));
        }
        if target.backends.is_empty() {
            line += if target.drop { " drop" } else { " refuse" };
        }
        if let Some(seconds) = target.affinity {
            line += &format!(" affinity={seconds}");
        }
        if !target.sources.is_empty() {
            line += &format!(" from={}", target.sources.iter().map(ToString::to_string).collect::<Vec<_>>().join(","));
        }
        lines.push(line);
    }
    lines.join("\n")
}

fn slice(endpoints: Value) -> Arc<EndpointSlice> {
    let value = json!({ "addressType": "IPv4", "metadata": { "name": "s" }, "ports": [{ "name": "http", "port": 8080, "protocol": "TCP" }, { "name": "dns", "port": 5353, "protocol": "UDP" }], "endpoints": endpoints });
    Arc::new(serde_json::from_value(value).unwrap())
}

fn two() -> Arc<EndpointSlice> {
    slice(json!([{ "addresses": ["10.244.1.1"], "nodeName": "n1", "conditions": { "ready": true } }, { "addresses": ["10.244.2.1"], "nodeName": "n2" }]))
}

#[track_caller]
fn check(service: Value, slices: &[Arc<EndpointSlice>], expected: &str) {
    let mut service = service;
    if service["spec"].get("ports").is_none() {
        service["spec"]["ports"] = json!([{ "name": "http", "port": 80, "nodePort": 30080 }]);
    }
    let rules = service_rules(0, &serde_json::from_value(service).unwrap(), slices, &Held::new(), &settings());
    let expected: Vec<&str> = expected.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    assert_eq!(show(&rules).lines().collect::<Vec<_>>(), expected);
}

#[test]
fn a_cluster_address_leads_to_all_ready_endpoints() {
    let ports = json!([{ "name": "http", "port": 80, "protocol": "TCP" }, { "name": "dns", "port": 53, "protocol": "UDP" }]);
    check(
        json!({ "spec": { "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1", "fd00::1"], "ports": ports } }),
        &[two()],
        "10.96.0.1 . tcp . 80 Cluster 10.244.1.1:8080* 10.244.2.1:8080
         10.96.0.1 . udp . 53 Cluster 10.244.1.1:5353* 10.244.2.1:5353",
    );
    check(json!({ "spec": { "clusterIP": "10.96.0.1" } }), &[], "10.96.0.1 . tcp . 80 Cluster refuse");
}

#[test]
fn headless_external_name_and_other_proxies_services_are_left_alone() {
    check(json!({ "spec": { "clusterIP": "None", "clusterIPs": ["None"] } }), &[two()], "");
    check(json!({ "spec": { "type": "ExternalName", "externalName": "example.org" } }), &[], "");
    check(json!({ "metadata": { "labels": { "service.kubernetes.io/service-proxy-name": "mine" } }, "spec": { "clusterIP": "10.96.0.1" } }), &[two()], "");
}

#[test]
fn internal_traffic_policy_local_stays_on_the_node() {
    check(json!({ "spec": { "clusterIP": "10.96.0.1", "internalTrafficPolicy": "Local" } }), &[two()], "10.96.0.1 . tcp . 80 Cluster 10.244.1.1:8080*");
    let elsewhere = slice(json!([{ "addresses": ["10.244.2.1"], "nodeName": "n2" }]));
    check(json!({ "spec": { "clusterIP": "10.96.0.1", "internalTrafficPolicy": "Local" } }), &[elsewhere], "10.96.0.1 . tcp . 80 Cluster drop");
}

#[test]
fn outside_addresses_translate_the_source_unless_traffic_stays_local() {
    let status = json!({ "loadBalancer": { "ingress": [{ "ip": "192.0.2.1" }, { "ip": "192.0.2.2", "ipMode": "Proxy" }, { "hostname": "lb" }] } });
    check(
        json!({ "spec": { "type": "LoadBalancer", "clusterIP": "10.96.0.1", "externalIPs": ["198.51.100.1"], "loadBalancerSourceRanges": ["10.0.0.0/8", "10.1.0.0/16", "172.16.0.1/32"] }, "status": status }),
        &[two()],
        "tcp . 30080 External 10.244.1.1:8080* 10.244.2.1:8080
         10.96.0.1 . tcp . 80 Cluster 10.244.1.1:8080* 10.244.2.1:8080
         192.0.2.1 . tcp . 80 External 10.244.1.1:8080* 10.244.2.1:8080 from=10.0.0.0/8,172.16.0.1/32
         198.51.100.1 . tcp . 80 External 10.244.1.1:8080* 10.244.2.1:8080",
    );
    check(
        json!({ "spec": { "type": "NodePort", "clusterIP": "10.96.0.1", "externalTrafficPolicy": "Local" } }),
        &[two()],
        "tcp . 30080 Inside 10.244.1.1:8080* 10.244.2.1:8080 | 10.244.1.1:8080*
         10.96.0.1 . tcp . 80 Cluster 10.244.1.1:8080* 10.244.2.1:8080",
    );
}

#[test]
fn affinity_lasts_three_hours_unless_said_otherwise() {
    check(json!({ "spec": { "clusterIP": "10.96.0.1", "sessionAffinity": "ClientIP" } }), &[], "10.96.0.1 . tcp . 80 Cluster refuse affinity=10800");
    let config = json!({ "clientIP": { "timeoutSeconds": 60 } });
    check(
        json!({ "spec": { "clusterIP": "10.96.0.1", "sessionAffinity": "ClientIP", "sessionAffinityConfig": config } }),
        &[],
        "10.96.0.1 . tcp . 80 Cluster refuse affinity=60",
    );
}

#[test]
fn an_endpoint_in_two_slices_counts_once_and_leaving_ones_serve_last() {
    let leaving = slice(json!([{ "addresses": ["10.244.1.1"], "nodeName": "n1", "conditions": { "ready": false, "serving": true, "terminating": true } }]));
    check(json!({ "spec": { "clusterIP": "10.96.0.1" } }), &[two(), leaving.clone()], "10.96.0.1 . tcp . 80 Cluster 10.244.1.1:8080* 10.244.2.1:8080");
    check(json!({ "spec": { "clusterIP": "10.96.0.1" } }), &[leaving], "10.96.0.1 . tcp . 80 Cluster 10.244.1.1:8080*");
}

#[test]
fn host_ports_lead_to_pods_that_run() {
    let pod = |phase: &str, host_network: bool| {
        let ports = json!([{ "containerPort": 80, "hostPort": 8080 }, { "containerPort": 53, "hostPort": 53, "protocol": "UDP", "hostIP": "192.0.2.1" }, { "containerPort": 1, "hostPort": 1, "hostIP": "127.0.0.1" }, { "containerPort": 9 }]);
        let value = json!({ "spec": { "hostNetwork": host_network, "containers": [{ "name": "c", "ports": ports }], "initContainers": [{ "name": "i", "ports": [{ "containerPort": 2, "hostPort": 2 }] }, { "name": "s", "restartPolicy": "Always", "ports": [{ "containerPort": 3, "hostPort": 3 }] }] }, "status": { "phase": phase, "podIP": "10.244.1.1" } });
        show(&host_port_rules(0, &serde_json::from_value(value).unwrap(), &settings()))
    };
    assert_eq!(
        pod("Running", false).lines().collect::<Vec<_>>(),
        ["tcp . 3 Keep 10.244.1.1:3*", "tcp . 8080 Keep 10.244.1.1:80*", "192.0.2.1 . udp . 53 Keep 10.244.1.1:53*"]
    );
    assert_eq!(pod("Succeeded", false), "");
    assert_eq!(pod("Running", true), "");
}

#[test]
fn a_tenants_balancer_address_is_everybodys_once_it_was_given() {
    let service = json!({
        "spec": { "type": "LoadBalancer", "clusterIP": "10.96.0.1", "ports": [{ "name": "http", "port": 80 }], "loadBalancerSourceRanges": ["198.51.100.0/24"] },
        "status": { "loadBalancer": { "ingress": [{ "ip": "192.0.2.50" }, { "ip": "192.0.2.60" }] } }
    });
    let service = serde_json::from_value(service).unwrap();
    let held = |proxied: &[&str]| Held::from([([192, 0, 2, 50].into(), proxied.iter().map(|port| (*port).to_owned()).collect())]);
    let lines = |held: &Held| show(&service_rules(3, &service, &[two()], held, &settings())).lines().map(str::to_owned).collect::<Vec<_>>();
    let own =
        ["0x30000 . 10.96.0.1 . tcp . 80 Cluster 10.244.1.1:8080* 10.244.2.1:8080", "0x30000 . 192.0.2.60 . tcp . 80 Cluster 10.244.1.1:8080* 10.244.2.1:8080"];
    let given = "192.0.2.50 . tcp . 80 External 10.244.1.1:8080* 10.244.2.1:8080 from=198.51.100.0/24";
    assert_eq!(lines(&held(&[])), [given, own[0], own[1]]);
    assert_eq!(lines(&held(&["TCP/80"])), own, "another serves that port");
}

#[test]
fn each_family_has_its_own_rules() {
    let mut dual = settings();
    dual.second_cluster_cidr = Some("fd42::/56".parse().unwrap());
    let slice_of = |kind: &str, address: &str| -> Arc<EndpointSlice> {
        let endpoints = json!([{ "addresses": [address], "nodeName": "n1" }]);
        Arc::new(
            serde_json::from_value(
                json!({ "addressType": kind, "metadata": { "name": kind }, "ports": [{ "name": "http", "port": 8080 }], "endpoints": endpoints }),
            )
            .unwrap(),
        )
    };
    let slices = [slice_of("IPv4", "10.244.1.1"), slice_of("IPv6", "fd42::1")];
    let spec = json!({
        "type": "LoadBalancer", "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1", "fd43::1"], "externalIPs": ["192.0.2.1", "2001:db8::1"],
        "loadBalancerSourceRanges": ["10.0.0.0/8", "2001:db8::/64", "2001:db8::1/128"], "ports": [{ "name": "http", "port": 80, "nodePort": 30080 }],
    });
    let service =
        serde_json::from_value(json!({ "spec": spec, "status": { "loadBalancer": { "ingress": [{ "ip": "203.0.113.1" }, { "ip": "2001:db8::2" }] } } }))
            .unwrap();
    let shown: Vec<String> = dual.by_family().iter().map(|settings| show(&service_rules(0, &service, &slices, &Held::new(), settings))).collect();
    assert_eq!(
        shown,
        [
            "tcp . 30080 External 10.244.1.1:8080*\n10.96.0.1 . tcp . 80 Cluster 10.244.1.1:8080*\n192.0.2.1 . tcp . 80 External 10.244.1.1:8080*\n203.0.113.1 . tcp . 80 External 10.244.1.1:8080* from=10.0.0.0/8",
            "tcp . 30080 External [fd42::1]:8080*\n2001:db8::1 . tcp . 80 External [fd42::1]:8080*\n2001:db8::2 . tcp . 80 External [fd42::1]:8080* from=2001:db8::/64\nfd43::1 . tcp . 80 Cluster [fd42::1]:8080*",
        ]
    );
    let pod = |host_ip: &str| {
        let port = json!({ "containerPort": 8080, "hostPort": 8888, "hostIP": host_ip });
        let pod = json!({ "spec": { "containers": [{ "name": "c", "ports": [port] }] }, "status": { "podIP": "10.244.1.1", "podIPs": [{ "ip": "10.244.1.1" }, { "ip": "fd42::1" }] } });
        let pod = serde_json::from_value(pod).unwrap();
        dual.by_family().iter().map(|settings| show(&host_port_rules(0, &pod, settings))).collect::<Vec<_>>()
    };
    assert_eq!(pod(""), ["tcp . 8888 Keep 10.244.1.1:8080*", "tcp . 8888 Keep [fd42::1]:8080*"]);
    assert_eq!(pod("0.0.0.0"), ["tcp . 8888 Keep 10.244.1.1:8080*", ""]);
    assert_eq!(pod("2001:db8::9"), ["", "2001:db8::9 . tcp . 8888 Keep [fd42::1]:8080*"]);
    assert_eq!(pod("::1"), ["", ""]);
}
