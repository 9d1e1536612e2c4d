//! NetworkPolicy: what traffic pods may receive and send.
use crate::cells::label_selector;
use crate::fields::{Fill, Read};
use api_resource::{Column, Names, Resource, text};
use serde_json::{Value, json};

pub struct NetworkPolicies;

impl Resource for NetworkPolicies {
    const NAMES: Names = Names::with("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies", "networkpolicy", const { &[text("netpol")] }, &[]);
    const COLUMNS: &'static [Column] = &[Column::with("Pod-Selector", |row| label_selector(&row.object["spec"]["podSelector"]).into())];
    fn default(object: &mut Value) {
        let spec = object.open("spec");
        spec.absent("podSelector", json!({}));
        if spec["policyTypes"].is_zero() {
            let types = if spec["egress"].is_zero() { json!(["Ingress"]) } else { json!(["Ingress", "Egress"]) };
            spec.put("policyTypes", types);
        }
        for direction in ["ingress", "egress"] {
            for rule in spec.each(direction) {
                rule.each("ports").for_each(|port| port.absent("protocol", "TCP"));
            }
        }
    }
}
