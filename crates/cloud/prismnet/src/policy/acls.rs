//! One policy's ACLs in one direction, as nft writes them: each lets something through; what none does is dropped.
use super::members::{Members, Scope, What};
use super::network_policy::{Direction, Peers, PodPeer, Policy, Ports, Rule};
use super::pods::Protocol;
use api_meta::{IpFamily, LabelSelector};
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The rules of a policy's chain in a family's table. `set` gives a set's name, and makes it if there is none yet.
pub fn acls(policy: &Policy, namespace: &Arc<str>, direction: Direction, family: IpFamily, mut set: impl FnMut(Members) -> String) -> Vec<String> {
    let mut acls = Vec::new();
    for rule in policy.rules.get(&direction).into_iter().flatten() {
        let peers = peers(rule, namespace, direction, family, &mut set);
        let (ports, named) = match &rule.ports {
            Ports::Any => (vec![String::new()], None),
            Ports::These { ranges, named } => (numbers(ranges), Some(named)),
        };
        for peer in &peers {
            acls.extend(ports.iter().map(|port| accept(peer, port)));
        }
        for (protocol, name) in named.into_iter().flatten() {
            let what = What::Port(*protocol, name.clone());
            match direction {
                // The name is one of the pods that the policy is for.
                Direction::Ingress => {
                    let port = destinations(family, &set(Members { namespaces: Scope::One(namespace.clone()), pods: policy.pods.clone(), what }));
                    acls.extend(peers.iter().map(|peer| accept(peer, &port)));
                }
                // The name is one of the peers; addresses without a pod have no names.
                Direction::Egress => {
                    for peer in named_peers(&rule.peers) {
                        acls.push(accept("", &destinations(family, &set(members(&peer, namespace, what.clone())))));
                    }
                }
            }
        }
    }
    acls
}

fn accept(peer: &str, port: &str) -> String {
    format!("{peer}{port}accept")
}

fn destinations(family: IpFamily, set: &str) -> String {
    format!("{} daddr . meta l4proto . th dport @{set} ", family.header())
}

/// One match for each set of peers; empty text matches everybody.
fn peers(rule: &Rule, namespace: &Arc<str>, direction: Direction, family: IpFamily, set: &mut impl FnMut(Members) -> String) -> Vec<String> {
    let Peers::These { pods, blocks } = &rule.peers else { return vec![String::new()] };
    let blocks: Vec<&IpNet> = blocks.iter().filter(|block| IpFamily::of(block.addr()) == family).collect();
    let ip = family.header();
    let end = match direction {
        Direction::Ingress => "saddr",
        Direction::Egress => "daddr",
    };
    if blocks.iter().any(|block| block.prefix_len() == 0) {
        return vec![String::new()];
    }
    let mut matches: Vec<String> = pods.iter().map(|peer| format!("{ip} {end} @{} ", set(members(peer, namespace, What::Addresses)))).collect();
    if !blocks.is_empty() {
        let blocks: Vec<String> = blocks.iter().map(ToString::to_string).collect();
        matches.push(format!("{ip} {end} {{ {} }} ", blocks.join(", ")));
    }
    matches
}

fn members(peer: &PodPeer, namespace: &Arc<str>, what: What) -> Members {
    let namespaces = peer.namespaces.clone().map_or_else(|| Scope::One(namespace.clone()), Scope::Selected);
    Members { namespaces, pods: peer.pods.clone(), what }
}

/// The pods whose ports a rule names.
pub(crate) fn named_peers(peers: &Peers) -> Vec<PodPeer> {
    match peers {
        Peers::Anybody => vec![PodPeer { namespaces: Some(LabelSelector::everything()), pods: LabelSelector::everything() }],
        Peers::These { pods, .. } => pods.clone(),
    }
}

/// One match for all numbers; none if there are no numbers.
fn numbers(ranges: &BTreeMap<Protocol, Vec<(u16, u16)>>) -> Vec<String> {
    let range = |protocol: &Protocol, &(first, last): &(u16, u16)| {
        if first == last { format!("{} . {first}", protocol.name()) } else { format!("{} . {first}-{last}", protocol.name()) }
    };
    let all: Vec<String> = ranges.iter().flat_map(|(protocol, ranges)| ranges.iter().map(move |each| range(protocol, each))).collect();
    if all.is_empty() { Vec::new() } else { vec![format!("meta l4proto . th dport {{ {} }} ", all.join(", "))] }
}
