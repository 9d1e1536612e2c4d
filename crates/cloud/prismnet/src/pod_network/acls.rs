//! One NetworkPolicy's ACLs, in the words of the specification and OVN. Pure.
use super::address_sets::{AddressSet, AddressSets};
use super::switches::Switch;
use crate::policy::{Direction, Members, Peers, PodPeer, Policy, Ports, Protocol, Rule, Scope, What, named_peers};
use crate::proto::Acl;
use api_meta::LabelSelector;
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a policy lets through.
const ALLOW: i32 = 1000;
/// All else of the pods it isolates.
const DENY: i32 = 900;

/// The pods that a policy's names stand for, as far as that has to be known to write its ACLs.
pub type Numbers<'a> = dyn Fn(&Members) -> BTreeSet<u16> + 'a;

/// A policy of a switch. The sets that its ACLs name are put into `sets`.
pub fn acls(switch: &Switch, name: &str, policy: &Policy, numbers: &Numbers<'_>, sets: &mut AddressSets) -> Vec<Acl> {
    let mut acls = Vec::new();
    for (direction, rules) in &policy.rules {
        let mut writer = Writer { switch, policy, direction: *direction, numbers, sets };
        let subject = writer.subject();
        let matches: Vec<String> = rules.iter().flat_map(|rule| writer.rule(&subject, rule)).collect();
        let acl = |number: String, priority: i32, r#match: String, action: &str| Acl {
            id: format!("{}/{name}/{}/{number}", switch.name(), direction.name()),
            logical_switch: switch.name(),
            direction: if *direction == Direction::Ingress { "to-lport" } else { "from-lport" }.to_owned(),
            priority,
            r#match,
            action: action.to_owned(),
        };
        acls.extend(matches.into_iter().enumerate().map(|(number, text)| acl(number.to_string(), ALLOW, text, "allow-related")));
        acls.push(acl("default".into(), DENY, all_of([subject.as_str()]), "drop"));
    }
    acls
}

/// Comparisons that all have to hold; empty ones always do.
fn all_of<'a>(terms: impl IntoIterator<Item = &'a str>) -> String {
    let terms: Vec<&str> = terms.into_iter().filter(|term| !term.is_empty()).collect();
    if terms.is_empty() { "1".into() } else { terms.join(" && ") }
}

struct Writer<'a> {
    switch: &'a Switch,
    policy: &'a Policy,
    direction: Direction,
    numbers: &'a Numbers<'a>,
    sets: &'a mut AddressSets,
}

impl Writer<'_> {
    /// A set by its name.
    fn set(&mut self, set: AddressSet) -> String {
        let name = set.name();
        self.sets.entry(name.clone()).or_insert_with(|| Arc::new(set));
        format!("${name}")
    }

    fn own(&self) -> Scope {
        Scope::One(self.switch.namespace.clone())
    }

    /// The pods that the policy is for; nothing to say if these are all of the switch.
    fn subject(&mut self) -> String {
        if self.policy.pods.is_everything() {
            return String::new();
        }
        let set = self.set(AddressSet::of_pods(&self.switch.cluster, self.own(), self.policy.pods.clone()));
        let end = if self.direction == Direction::Ingress { "ip4.dst" } else { "ip4.src" };
        format!("{end} == {set}")
    }

    /// What a rule lets through: one match for each kind of peer and port.
    fn rule(&mut self, subject: &str, rule: &Rule) -> Vec<String> {
        let peers = self.peers(&rule.peers);
        let (ports, named) = match &rule.ports {
            Ports::Any => (vec![String::new()], None),
            Ports::These { ranges, named } => (numbered(ranges), Some(named)),
        };
        let mut matches = Vec::new();
        for peer in &peers {
            matches.extend(ports.iter().map(|port| all_of([subject, peer, port])));
        }
        for (protocol, name) in named.into_iter().flatten() {
            match self.direction {
                // The name is one of the pods that the policy is for.
                Direction::Ingress => {
                    for (pods, port) in self.named(self.own(), &self.policy.pods, *protocol, name) {
                        matches.extend(peers.iter().map(|peer| all_of([pods.as_str(), peer, &port])));
                    }
                }
                // The name is one of the peers; addresses without a pod have no names.
                Direction::Egress => {
                    for PodPeer { namespaces, pods } in named_peers(&rule.peers) {
                        let scope = namespaces.map_or_else(|| self.own(), Scope::Selected);
                        let named = self.named(scope, &pods, *protocol, name);
                        matches.extend(named.into_iter().map(|(pods, port)| all_of([subject, &pods, &port])));
                    }
                }
            }
        }
        matches
    }

    /// One match for each set of peers; empty text matches everybody.
    fn peers(&mut self, peers: &Peers) -> Vec<String> {
        let Peers::These { pods, blocks } = peers else { return vec![String::new()] };
        let (blocks, second): (Vec<&IpNet>, Vec<&IpNet>) = blocks.iter().partition(|block| matches!(block, IpNet::V4(_)));
        if blocks.iter().any(|block| block.prefix_len() == 0) {
            return vec![String::new()];
        }
        let (end, second_end) = if self.direction == Direction::Ingress { ("ip4.src", "ip6.src") } else { ("ip4.dst", "ip6.dst") };
        let mut matches = Vec::new();
        for peer in pods {
            let scope = peer.namespaces.clone().map_or_else(|| self.own(), Scope::Selected);
            let set = self.set(AddressSet::of_pods(&self.switch.cluster, scope, peer.pods.clone()));
            matches.push(format!("{end} == {set}"));
        }
        for (end, blocks) in [(end, blocks), (second_end, second)] {
            if !blocks.is_empty() {
                matches.push(format!("{end} == {}", one_of(blocks.iter().map(ToString::to_string))));
            }
        }
        matches
    }

    /// The destinations that a port's name means: pods, and the number it has there.
    fn named(&mut self, namespaces: Scope, pods: &LabelSelector, protocol: Protocol, name: &str) -> Vec<(String, String)> {
        let members = Members { namespaces, pods: pods.clone(), what: What::Port(protocol, name.to_owned()) };
        let numbers = (self.numbers)(&members);
        let each = numbers.into_iter().map(|number| {
            let set = self.set(AddressSet { cluster: self.switch.cluster.clone(), members: members.clone(), number: Some(number) });
            (format!("ip4.dst == {set}"), format!("{}.dst == {number}", protocol.name()))
        });
        each.collect()
    }
}

/// For each protocol the single numbers together, and each range alone.
fn numbered(ranges: &BTreeMap<Protocol, Vec<(u16, u16)>>) -> Vec<String> {
    let mut matches = Vec::new();
    for (protocol, ranges) in ranges {
        let name = protocol.name();
        let (single, wide): (Vec<_>, Vec<_>) = ranges.iter().partition(|(first, last)| first == last);
        if !single.is_empty() {
            matches.push(format!("{name}.dst == {}", one_of(single.iter().map(|(number, _)| number.to_string()))));
        }
        matches.extend(wide.into_iter().map(|(first, last)| match (first, last) {
            (0, u16::MAX) => name.to_owned(),
            _ => format!("{name}.dst >= {first} && {name}.dst <= {last}"),
        }));
    }
    matches
}

fn one_of(values: impl Iterator<Item = String>) -> String {
    let all: Vec<String> = values.collect();
    if let [one] = &all[..] { one.clone() } else { format!("{{{}}}", all.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::switching::{Names, rule};
    use api_meta::ClusterName;
    use k8s_openapi::api::networking::v1::NetworkPolicy;
    use serde_json::{Value, json};
    use std::net::Ipv4Addr;

    /// Every name is one, so that what is written can be read as an ACL's match is that a caller makes.
    struct Anything;

    impl Names for Anything {
        fn address_set(&self, name: &str) -> Option<String> {
            Some(name.to_owned())
        }
        fn port(&self, _: &str) -> Option<Ipv4Addr> {
            None
        }
    }

    /// The ACLs of a policy in namespace `shop`: direction, priority, action and match, the marks of sets' names left out.
    fn check(spec: &Value, expected: &[&str]) {
        let policy: NetworkPolicy = serde_json::from_value(json!({"spec": spec})).unwrap();
        let switch = Switch { cluster: ClusterName::root(), namespace: "shop".into() };
        let numbers = |members: &Members| match &members.what {
            What::Port(Protocol::Tcp, name) if name == "http" => [80, 8080].into(),
            _ => BTreeSet::new(),
        };
        let mut sets = AddressSets::new();
        let acls = acls(&switch, "p", &Policy::of(&policy), &numbers, &mut sets);
        let readable = |text: &str| sets.keys().fold(text.to_owned(), |text, name| text.replace(name, name.rsplit_once('_').unwrap().0));
        let written: Vec<String> = acls.iter().map(|acl| format!("{} {} {} {}", acl.direction, acl.priority, acl.action, readable(&acl.r#match))).collect();
        assert_eq!(written, expected, "{spec}");
        for acl in &acls {
            assert!(matches!(rule(&acl.r#match, &Anything), Ok(Some(_))), "{}", acl.r#match);
            assert!(acl.id.starts_with("k8s-shop/p/") && acl.logical_switch == "k8s-shop");
        }
        assert_eq!(acls.iter().map(|acl| &acl.id).collect::<BTreeSet<_>>().len(), acls.len());
    }

    #[test]
    fn policies_are_acls_in_the_words_of_the_specification() {
        let (web, front) = (json!({"matchLabels": {"app": "web"}}), json!({"podSelector": {"matchLabels": {"app": "frontend"}}}));
        check(
            &json!({"podSelector": web, "ingress": [{"from": [front], "ports": [{"protocol": "TCP", "port": 80}]}]}),
            &[
                "to-lport 1000 allow-related ip4.dst == $app_web_pods && ip4.src == $app_frontend_pods && tcp.dst == 80",
                "to-lport 900 drop ip4.dst == $app_web_pods",
            ],
        );
        // Of all pods of a switch nothing has to be said.
        check(
            &json!({"podSelector": {}, "ingress": [{"from": [front], "ports": [{"port": 80}, {"port": 443}]}]}),
            &["to-lport 1000 allow-related ip4.src == $app_frontend_pods && tcp.dst == {80, 443}", "to-lport 900 drop 1"],
        );
        check(&json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}), &["to-lport 900 drop 1", "from-lport 900 drop 1"]);
        check(&json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{}]}), &["from-lport 1000 allow-related 1", "from-lport 900 drop 1"]);
    }

    #[test]
    fn blocks_ranges_and_names_are_matches_of_their_own() {
        let all = json!({"namespaceSelector": {}});
        let block = json!({"ipBlock": {"cidr": "10.0.0.0/30", "except": ["10.0.0.1/32"]}});
        check(
            &json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": [all, block], "ports": [
                {"protocol": "UDP", "port": 53}, {"port": 8000, "endPort": 8010}, {"protocol": "SCTP"}, {"protocol": "SCTP", "port": 7}]}]}),
            &[
                "from-lport 1000 allow-related ip4.dst == $all_pods && tcp.dst >= 8000 && tcp.dst <= 8010",
                "from-lport 1000 allow-related ip4.dst == $all_pods && udp.dst == 53",
                "from-lport 1000 allow-related ip4.dst == $all_pods && sctp",
                "from-lport 1000 allow-related ip4.dst == {10.0.0.0/32, 10.0.0.2/31} && tcp.dst >= 8000 && tcp.dst <= 8010",
                "from-lport 1000 allow-related ip4.dst == {10.0.0.0/32, 10.0.0.2/31} && udp.dst == 53",
                "from-lport 1000 allow-related ip4.dst == {10.0.0.0/32, 10.0.0.2/31} && sctp",
                "from-lport 900 drop 1",
            ],
        );
        // Everybody is no peer in particular.
        check(
            &json!({"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": "0.0.0.0/0"}}], "ports": [{"port": "http"}, {"port": "gone"}]}]}),
            &[
                "to-lport 1000 allow-related ip4.dst == $all_pods && tcp.dst == 80",
                "to-lport 1000 allow-related ip4.dst == $all_pods && tcp.dst == 8080",
                "to-lport 900 drop 1",
            ],
        );
        let (db, web) = (json!({"matchLabels": {"app": "db"}}), json!({"podSelector": {"matchLabels": {"app": "web"}}}));
        check(
            &json!({"podSelector": db, "policyTypes": ["Egress"], "egress": [{"to": [web], "ports": [{"port": "http"}]}]}),
            &[
                "from-lport 1000 allow-related ip4.src == $app_db_pods && ip4.dst == $app_web_pods && tcp.dst == 80",
                "from-lport 1000 allow-related ip4.src == $app_db_pods && ip4.dst == $app_web_pods && tcp.dst == 8080",
                "from-lport 900 drop ip4.src == $app_db_pods",
            ],
        );
    }
}
