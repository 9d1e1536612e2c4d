//! NetworkPolicy: what traffic pods may receive and send.
use crate::cells::label_selector;
use crate::check::{At, Report, network, selectors};
use crate::fields::{Fill, Read};
use api_meta::FieldErrors;
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
    fn validate(new: &Value, _old: Option<&Value>) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let root = At::root(new);
        let spec = root.field("spec");
        selectors::label_selector(&mut errors, &spec.field("podSelector"));
        for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
            let rules = spec.field(direction);
            for rule in rules.items() {
                let ports = rule.field("ports");
                for port in ports.items() {
                    policy_port(&mut errors, &port);
                }
                let peers = rule.field(peers);
                for peer in peers.items() {
                    policy_peer(&mut errors, &peer);
                }
            }
        }
        let types = spec.field("policyTypes");
        if types.list().len() > 2 {
            errors.invalid(&types, "may not specify more than two policyTypes");
        } else {
            for kind in types.items() {
                errors.one_of(&kind, &["Egress", "Ingress"]);
            }
        }
        errors
    }
}

fn policy_port(errors: &mut FieldErrors, at: &At) {
    errors.one_of_if_set(&at.field("protocol"), network::PROTOCOLS);
    let (port, end) = (at.field("port"), at.field("endPort"));
    if port.is_set() {
        network::port_or_name(errors, &port);
    }
    let Some(last) = end.int() else { return };
    match port.value() {
        Value::Null => errors.required(&port, "must be specified if `endPort` is set"),
        Value::String(_) => errors.invalid(&end, "may not be specified when `port` is non-numeric"),
        first => {
            if last < first.int().unwrap_or_default() {
                errors.invalid(&end, "must be greater than or equal to `port`");
            }
            network::port(errors, &end);
        }
    }
}

fn policy_peer(errors: &mut FieldErrors, peer: &At) {
    let block = peer.field("ipBlock");
    let mut kinds = 0;
    for selector in ["podSelector", "namespaceSelector"] {
        let selector = peer.field(selector);
        if selector.is_set() {
            kinds += 1;
            selectors::label_selector(errors, &selector);
        }
    }
    if block.is_set() {
        ip_block(errors, &block);
        if kinds > 0 {
            errors.forbidden(peer, "may not specify both ipBlock and another peer");
        }
    } else if kinds == 0 {
        errors.required(peer, "must specify a peer");
    }
}

fn ip_block(errors: &mut FieldErrors, block: &At) {
    let cidr = block.field("cidr");
    if cidr.text().is_empty() {
        return errors.required(&cidr, "");
    }
    let whole = network::cidr(errors, &cidr);
    let exceptions = block.field("except");
    for exception in exceptions.items() {
        if let (Some(part), Some(whole)) = (network::cidr(errors, &exception), whole)
            && (!whole.contains(&part) || part.prefix_len() <= whole.prefix_len())
        {
            errors.invalid(&exception, "must be a strict subset of `cidr`");
        }
    }
}
