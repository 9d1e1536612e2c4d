//! What one NetworkPolicy says, read once: which pods it isolates, and whom it lets in and out.
use super::pods::Protocol;
use api_meta::LabelSelector;
use ipnet::IpNet;
use k8s_openapi::api::networking::v1::{IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    Ingress,
    Egress,
}

impl Direction {
    pub const BOTH: [Self; 2] = [Self::Ingress, Self::Egress];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }
}

/// The directions in which a pod gets only what policies let through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Isolation {
    pub ingress: bool,
    pub egress: bool,
}

impl Isolation {
    pub(crate) fn holds(self, direction: Direction) -> bool {
        match direction {
            Direction::Ingress => self.ingress,
            Direction::Egress => self.egress,
        }
    }
    pub(crate) fn add(&mut self, direction: Direction) {
        match direction {
            Direction::Ingress => self.ingress = true,
            Direction::Egress => self.egress = true,
        }
    }
}

/// A policy, by its rules in each direction it isolates in.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    pub pods: LabelSelector,
    pub rules: BTreeMap<Direction, Vec<Rule>>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    pub peers: Peers,
    pub ports: Ports,
}

/// The other ends.
#[derive(Clone, Debug, PartialEq)]
pub enum Peers {
    Anybody,
    These { pods: Vec<PodPeer>, blocks: Vec<IpNet> },
}

/// Pods of the policy's own namespace, or of those selected.
#[derive(Clone, Debug, PartialEq)]
pub struct PodPeer {
    pub namespaces: Option<LabelSelector>,
    pub pods: LabelSelector,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Ports {
    /// Every protocol, also those without ports.
    Any,
    These {
        ranges: BTreeMap<Protocol, Vec<(u16, u16)>>,
        named: BTreeSet<(Protocol, String)>,
    },
}

impl Policy {
    /// A part of the policy that can't be understood (the API server refuses such) lets nobody through.
    pub fn of(policy: &NetworkPolicy) -> Self {
        let Some(spec) = &policy.spec else { return Self { pods: nothing(), rules: BTreeMap::new() } };
        let types = spec.policy_types.iter().flatten();
        let named: BTreeSet<Direction> =
            types.filter_map(|name| Direction::BOTH.into_iter().find(|direction| direction.name().eq_ignore_ascii_case(name))).collect();
        // Written before defaults were: ingress always, egress if there are rules for it.
        let isolates = |direction| {
            if named.is_empty() {
                direction == Direction::Ingress || spec.egress.as_ref().is_some_and(|rules| !rules.is_empty())
            } else {
                named.contains(&direction)
            }
        };
        let mut rules = BTreeMap::new();
        if isolates(Direction::Ingress) {
            let each = spec.ingress.iter().flatten().map(|rule| Rule { peers: peers(rule.from.as_deref()), ports: ports(rule.ports.as_deref()) });
            rules.insert(Direction::Ingress, each.collect());
        }
        if isolates(Direction::Egress) {
            let each = spec.egress.iter().flatten().map(|rule| Rule { peers: peers(rule.to.as_deref()), ports: ports(rule.ports.as_deref()) });
            rules.insert(Direction::Egress, each.collect());
        }
        Self { pods: spec.pod_selector.as_ref().map_or_else(LabelSelector::everything, selector), rules }
    }
}

fn peers(peers: Option<&[NetworkPolicyPeer]>) -> Peers {
    let Some(peers) = peers.filter(|peers| !peers.is_empty()) else { return Peers::Anybody };
    let (mut pods, mut blocks) = (Vec::new(), Vec::new());
    for peer in peers {
        if let Some(block) = &peer.ip_block {
            blocks.extend(addresses_of(block));
        } else if peer.namespace_selector.is_some() || peer.pod_selector.is_some() {
            pods.push(PodPeer {
                namespaces: peer.namespace_selector.as_ref().map(selector),
                pods: peer.pod_selector.as_ref().map_or_else(LabelSelector::everything, selector),
            });
        }
    }
    Peers::These { pods, blocks: IpNet::aggregate(&blocks) }
}

/// A block without its exceptions, in prefixes.
fn addresses_of(block: &IPBlock) -> Vec<IpNet> {
    let Ok(whole) = block.cidr.parse::<IpNet>() else { return Vec::new() };
    let mut parts = vec![whole.trunc()];
    for exception in block.except.iter().flatten() {
        let Ok(exception) = exception.parse::<IpNet>() else { return Vec::new() };
        parts = parts.into_iter().flat_map(|part| without(part, exception.trunc())).collect();
    }
    parts
}

fn without(part: IpNet, exception: IpNet) -> Vec<IpNet> {
    if exception.contains(&part) {
        return Vec::new();
    }
    if !part.contains(&exception) {
        return vec![part];
    }
    let halves = part.subnets(part.prefix_len() + 1).expect("a prefix that holds a longer one can be halved");
    halves.flat_map(|half| without(half, exception)).collect()
}

fn ports(ports: Option<&[NetworkPolicyPort]>) -> Ports {
    let Some(ports) = ports.filter(|ports| !ports.is_empty()) else { return Ports::Any };
    let (mut ranges, mut named) = (BTreeMap::<Protocol, Vec<(u16, u16)>>::new(), BTreeSet::new());
    for port in ports {
        let Some(protocol) = Protocol::of(port.protocol.as_deref()) else { continue };
        match &port.port {
            None => ranges.entry(protocol).or_default().push((0, u16::MAX)),
            Some(IntOrString::Int(first)) => {
                let last = port.end_port.unwrap_or(*first);
                if let (Ok(first), Ok(last)) = (u16::try_from(*first), u16::try_from(last)) {
                    ranges.entry(protocol).or_default().push((first, last));
                }
            }
            Some(IntOrString::String(name)) => {
                named.insert((protocol, name.clone()));
            }
        }
    }
    for ranges in ranges.values_mut() {
        merge(ranges);
    }
    Ports::These { ranges, named }
}

/// Ranges that overlap or touch become one: the kernel takes no others.
fn merge(ranges: &mut Vec<(u16, u16)>) {
    ranges.sort_unstable();
    let mut merged: Vec<(u16, u16)> = Vec::new();
    for &(first, last) in ranges.iter().filter(|(first, last)| first <= last) {
        match merged.last_mut() {
            Some((_, end)) if first <= end.saturating_add(1) => *end = (*end).max(last),
            _ => merged.push((first, last)),
        }
    }
    *ranges = merged;
}

fn selector(selector: &meta::LabelSelector) -> LabelSelector {
    let expressions: Vec<_> = selector.match_expressions.iter().flatten().map(|e| (&*e.key, &*e.operator, e.values.as_deref().unwrap_or_default())).collect();
    LabelSelector::from_parts(selector.match_labels.iter().flatten(), expressions).unwrap_or_else(|_| nothing())
}

/// Selects no pod at all.
fn nothing() -> LabelSelector {
    LabelSelector::parse("nothing,!nothing").expect("the selector is well-formed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_lose_their_exceptions() {
        let block = |cidr: &str, except: &[&str]| IPBlock { cidr: cidr.into(), except: Some(except.iter().map(|&e| e.into()).collect()) };
        let nets = |block| addresses_of(&block).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(nets(block("10.0.0.0/30", &[])), ["10.0.0.0/30"]);
        assert_eq!(nets(block("10.0.0.0/30", &["10.0.0.1/32"])), ["10.0.0.0/32", "10.0.0.2/31"]);
        assert_eq!(nets(block("10.0.0.0/30", &["10.0.0.0/31", "10.0.0.2/31"])), [""; 0]);
        assert_eq!(nets(block("10.0.0.0/30", &["10.1.0.0/16"])), ["10.0.0.0/30"]);
        assert_eq!(nets(block("fd00::/8", &[])), ["fd00::/8"]);
        assert_eq!(nets(block("fd00::/126", &["fd00::1/128"])), ["fd00::/128", "fd00::2/127"]);
        assert_eq!(nets(block("fd00::/126", &["10.0.0.0/8"])), ["fd00::/126"], "of another family");
        assert_eq!(nets(block("::/0", &["nonsense"])), [""; 0]);
    }

    #[test]
    fn ranges_that_touch_become_one() {
        let mut ranges = vec![(80, 80), (443, 443), (81, 90), (85, 85), (500, 400), (0, 0), (65535, 65535)];
        merge(&mut ranges);
        assert_eq!(ranges, [(0, 0), (80, 90), (443, 443), (65535, 65535)]);
    }
}
