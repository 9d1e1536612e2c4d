//! Service: a stable address in front of pods.
use crate::cells::{NONE, labels, load_balancer, text_or};
use crate::core::{service_fields, service_validation};
use crate::fields::{Fill, Read, selectable};
use crate::subresources::SERVICE_PROXY;
use api_meta::FieldErrors;
use api_resource::{ALL, Column, Field, NameRule, Names, Resource, Row, STATUS, Subresource, WriteContext, text};
use serde_json::{Value, json};

pub struct Services;

impl Resource for Services {
    const NAMES: Names = Names::with("", "v1", "Service", "services", "service", const { &[text("svc")] }, ALL);
    const RETURNS_DELETED: bool = true;
    const COLUMNS: &'static [Column] = &[
        Column::path("Type", ".spec.type"),
        Column::with("Cluster-IP", |row| text_or(&row.object["spec"]["clusterIP"], NONE)),
        Column::with("External-IP", external_ip),
        Column::with("Port(s)", ports),
        Column::with("Selector", |row| labels(&row.object["spec"]["selector"]).into()).wide(),
    ];
    const NAME_RULE: NameRule = NameRule::Dns1035;
    const SUBRESOURCES: &'static [Subresource] = &[STATUS, SERVICE_PROXY];
    const FIELDS: &'static [Field] = &[selectable("spec.clusterIP", ""), selectable("spec.type", "")];
    const GENERATION: bool = false;
    const CREATE_ON_UPDATE: bool = true;
    fn default(object: &mut Value) {
        let spec = object.open("spec");
        spec.zero("sessionAffinity", "None");
        if spec["sessionAffinity"] == "ClientIP" {
            spec.open("sessionAffinityConfig").open("clientIP").absent("timeoutSeconds", 10_800);
        } else {
            spec.remove("sessionAffinityConfig");
        }
        spec.zero("type", "ClusterIP");
        for port in spec.each("ports") {
            port.zero("protocol", "TCP");
            let number = port["port"].clone();
            port.zero("targetPort", number);
        }
        if service_fields::externally_accessible(spec) {
            spec.zero("externalTrafficPolicy", "Cluster");
        }
        if matches!(spec["type"].text(), "ClusterIP" | "NodePort" | "LoadBalancer") {
            spec.absent("internalTrafficPolicy", "Cluster");
        }
        if spec["type"] == "LoadBalancer" {
            spec.absent("allocateLoadBalancerNodePorts", true);
        }
        let balanced = object["spec"]["type"] == "LoadBalancer";
        let status = object.open("status");
        let balancer = status.open("loadBalancer");
        if balanced {
            for ingress in balancer.each("ingress").filter(|ingress| !ingress["ip"].text().is_empty()) {
                ingress.absent("ipMode", "VIP");
            }
        }
    }
    fn prepare_create(object: &mut Value, _context: &WriteContext) {
        object.put("status", json!({"loadBalancer": {}}));
        let spec = object.open("spec");
        if !spec["clusterIP"].text().is_empty() && spec["clusterIPs"].list().is_empty() {
            let address = spec["clusterIP"].clone();
            spec.put("clusterIPs", vec![address]);
        }
    }
    fn prepare_update(new: &mut Value, old: &Value, _context: &WriteContext) {
        service_fields::normalize_cluster_ips(new.open("spec"), &old["spec"]);
        service_fields::drop_what_the_type_has_no_use_for(new.open("spec"), &old["spec"]);
        service_fields::keep_allocated(new.open("spec"), &old["spec"]);
    }
    fn validate(new: &Value, old: Option<&Value>) -> FieldErrors {
        service_validation::service(new, old)
    }
}

fn external_ip(row: &Row) -> Value {
    let spec = &row.object["spec"];
    let external: Vec<&str> = spec["externalIPs"].texts().collect();
    match spec["type"].text() {
        "ClusterIP" | "NodePort" if external.is_empty() => NONE.into(),
        "ClusterIP" | "NodePort" => external.join(",").into(),
        "LoadBalancer" => {
            let balanced = load_balancer(&row.object["status"]);
            let all: Vec<&str> = balanced.split(',').filter(|address| !address.is_empty()).chain(external).collect();
            if all.is_empty() { "<pending>".into() } else { all.join(",").into() }
        }
        "ExternalName" => spec["externalName"].text().into(),
        _ => "<unknown>".into(),
    }
}

fn ports(row: &Row) -> Value {
    let ports: Vec<String> = row.object["spec"]["ports"]
        .list()
        .iter()
        .map(|port| match port["nodePort"].int().unwrap_or_default() {
            0 => format!("{}/{}", port["port"], port["protocol"].text()),
            node_port => format!("{}:{node_port}/{}", port["port"], port["protocol"].text()),
        })
        .collect();
    if ports.is_empty() { NONE.into() } else { ports.join(",").into() }
}
