//! Tallies against counting anew: whatever came and went before, a node is refused for the same reason.
use crate::filters;
use crate::testing::{namespace, node, pod_in};
use crate::{Needs, NodeInfo, PodInfo, Snapshot};
use api_meta::{ClusterName, LabelSelector};
use controller_kit::node_selector::RequiredNodes;
use controller_kit::own_nodes::owner;
use controller_kit::selector;
use controller_kit::tolerations::any_tolerates;
use k8s_openapi::api::core::v1::TopologySpreadConstraint;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;

/// Numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn one_of(&mut self, of: &[&'static str]) -> &'static str {
        of[self.below(of.len() as u64) as usize]
    }

    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % n
    }
}

/// What spreading says of a node, counted over all nodes and pods.
fn naive_spread(pod: &PodInfo, snapshot: &Snapshot, node: &NodeInfo) -> Option<&'static str> {
    let spec = pod.pod.spec.as_ref().unwrap();
    let hard: Vec<&TopologySpreadConstraint> =
        spec.topology_spread_constraints.iter().flatten().filter(|constraint| constraint.when_unsatisfiable == "DoNotSchedule").collect();
    let required = RequiredNodes::of(spec);
    for constraint in &hard {
        let selector: LabelSelector = selector(constraint.label_selector.as_ref().unwrap()).unwrap();
        let mut counts: HashMap<&str, i64> = HashMap::new();
        for other in snapshot.nodes() {
            let tolerations = spec.tolerations.as_deref().unwrap_or_default();
            let counted = owner(&other.name).is_none()
                && hard.iter().all(|constraint| other.label(&constraint.topology_key).is_some())
                && (constraint.node_affinity_policy.as_deref() == Some("Ignore") || required.matches(&other.name, other.labels()))
                && (constraint.node_taints_policy.as_deref() != Some("Honor") || other.taints().iter().all(|taint| any_tolerates(tolerations, taint)));
            if !counted {
                continue;
            }
            let alike = |there: &&Arc<PodInfo>| {
                there.key.cluster == pod.key.cluster
                    && there.key.namespace == pod.key.namespace
                    && !there.is_terminating()
                    && selector.matches(&there.pod.metadata.labels)
            };
            *counts.entry(other.label(&constraint.topology_key).unwrap()).or_default() += other.pods.iter().filter(alike).count() as i64;
        }
        let Some(part) = node.label(&constraint.topology_key) else {
            return Some("node(s) didn't match pod topology spread constraints (missing required label)");
        };
        let few = (counts.len() as i32) < constraint.min_domains.unwrap_or(1);
        let least = if few { 0 } else { counts.values().copied().min().unwrap_or_default() };
        let own = i64::from(selector.matches(&pod.pod.metadata.labels));
        if counts.get(part).copied().unwrap_or_default() + own - least > i64::from(constraint.max_skew) {
            return Some("node(s) didn't match pod topology spread constraints");
        }
    }
    None
}

/// What affinity says of a node, asked of every pod on every node.
fn naive_affinity(pod: &PodInfo, snapshot: &Snapshot, node: &NodeInfo) -> Option<&'static str> {
    let namespaces = snapshot.namespaces();
    let everywhere = || snapshot.nodes().iter().flat_map(|node| node.pods.iter().map(move |pod| (node, pod)));
    let near = |key: &str, other: &NodeInfo| node.label(key).is_some() && node.label(key) == other.label(key);
    let cluster = &pod.key.cluster;
    let meant_by_all = |other: &PodInfo| pod.affinity.iter().all(|term| term.matches(cluster, other, namespaces));
    if !pod.affinity.is_empty() {
        let labelled = pod.affinity.iter().all(|term| node.label(&term.topology_key).is_some());
        let all_there = pod.affinity.iter().all(|term| everywhere().any(|(at, other)| meant_by_all(other) && near(&term.topology_key, at)));
        let any = everywhere().any(|(at, other)| meant_by_all(other) && pod.affinity.iter().any(|term| at.label(&term.topology_key).is_some()));
        if !labelled || !(all_there || (!any && meant_by_all(pod))) {
            return Some("node(s) didn't match pod affinity rules");
        }
    }
    let keeps_off = |term: &&crate::term::Term| everywhere().any(|(at, other)| term.matches(cluster, other, namespaces) && near(&term.topology_key, at));
    if pod.anti_affinity.iter().any(|term| keeps_off(&term)) {
        return Some("node(s) didn't match pod anti-affinity rules");
    }
    let guards = |other: &PodInfo, at: &NodeInfo| {
        other.anti_affinity.iter().any(|term| term.matches(&other.key.cluster, pod, namespaces) && near(&term.topology_key, at))
    };
    everywhere().any(|(at, other)| guards(other, at)).then_some("node(s) didn't satisfy existing pods anti-affinity rules")
}

fn some_node(dice: &mut Dice, name: &str) -> Arc<k8s_openapi::api::core::v1::Node> {
    let mut value = json!({"status": {"allocatable": {"pods": "1000", "cpu": "1000", "memory": "1Ti"}}});
    if dice.below(5) > 0 {
        value["metadata"]["labels"]["zone"] = json!(format!("z{}", dice.below(3)));
    }
    value["metadata"]["labels"]["disk"] = json!(dice.one_of(&["ssd", "hdd"]));
    if dice.below(4) == 0 {
        value["spec"]["taints"] = json!([{"key": "t", "value": "", "effect": "NoSchedule"}]);
    }
    node(name, value)
}

fn some_spec(dice: &mut Dice) -> Value {
    let key = |dice: &mut Dice| dice.one_of(&["zone", "kubernetes.io/hostname", "disk"]);
    let apps = |dice: &mut Dice| json!({"matchLabels": {"app": dice.one_of(&["a", "b", "c"])}});
    let mut spec = json!({});
    for _ in 0..dice.below(3) {
        let constraint = json!({
            "maxSkew": 1 + dice.below(2), "topologyKey": key(dice), "labelSelector": apps(dice), "minDomains": 1 + dice.below(3),
            "whenUnsatisfiable": dice.one_of(&["DoNotSchedule", "ScheduleAnyway"]),
            "nodeAffinityPolicy": dice.one_of(&["Honor", "Ignore"]), "nodeTaintsPolicy": dice.one_of(&["Honor", "Ignore"]),
        });
        let all = spec.as_object_mut().unwrap().entry("topologySpreadConstraints").or_insert(json!([]));
        all.as_array_mut().unwrap().push(constraint);
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let term = |dice: &mut Dice| {
            let mut term = json!({"topologyKey": key(dice), "labelSelector": apps(dice)});
            if dice.below(3) == 0 {
                term["namespaceSelector"] = json!({"matchLabels": {"team": "x"}});
            }
            term
        };
        let required: Vec<Value> = (0..[0, 0, 1, 2][dice.below(4) as usize]).map(|_| term(dice)).collect();
        let preferred: Vec<Value> = (0..dice.below(2)).map(|_| json!({"weight": 1 + dice.below(9), "podAffinityTerm": term(dice)})).collect();
        spec["affinity"][kind] =
            json!({"requiredDuringSchedulingIgnoredDuringExecution": required, "preferredDuringSchedulingIgnoredDuringExecution": preferred});
    }
    if dice.below(4) == 0 {
        spec["nodeSelector"] = json!({"disk": "ssd"});
    }
    spec
}

#[test]
fn tallies_say_what_counting_anew_says() {
    let tenant = ClusterName::parse("tenant").unwrap();
    for seed in 0..30 {
        let mut dice = Dice(seed);
        let mut snapshot = Snapshot::default();
        let mut placed: Vec<Arc<PodInfo>> = Vec::new();
        for round in 0..120 {
            match dice.below(10) {
                0..2 => snapshot.set_node({
                    let name = format!("n{}", dice.below(8));
                    some_node(&mut dice, &name)
                }),
                2 => snapshot.remove_node(&format!("n{}", dice.below(8))),
                3 => {
                    let labels = (dice.below(2) == 0).then(|| namespace([("team".to_owned(), "x".to_owned())].into()));
                    snapshot.set_namespace(&ClusterName::root(), &"n".into(), labels);
                }
                4 if !placed.is_empty() => {
                    let gone = placed.swap_remove(dice.below(placed.len() as u64) as usize);
                    snapshot.remove_pod(&gone.key);
                }
                _ => {
                    let cluster = if dice.below(6) == 0 { tenant.clone() } else { ClusterName::root() };
                    let spec = some_spec(&mut dice);
                    let pod = pod_in(&cluster, &format!("{}{round}", dice.one_of(&["a", "b", "c"])), spec);
                    snapshot.place(pod.clone(), &format!("n{}", dice.below(8)));
                    placed.push(pod);
                }
            }
            let spec = some_spec(&mut dice);
            let asks = pod_in(&ClusterName::root(), dice.one_of(&["a", "b", "c"]), spec);
            let volumes = Needs::default();
            let filters = filters::prepare(&asks, &volumes, &snapshot);
            for node in snapshot.nodes() {
                for filter in &filters {
                    let naive = match filter.plugin() {
                        crate::Plugin::PodTopologySpread => naive_spread(&asks, &snapshot, node),
                        crate::Plugin::InterPodAffinity => naive_affinity(&asks, &snapshot, node),
                        _ => continue,
                    };
                    let said = filter.check(node).err().map(|rejection| rejection.reasons[0].to_string());
                    assert_eq!(said.as_deref(), naive, "seed {seed}, round {round}, node {}, pod {:?}", node.name, asks.pod.spec);
                }
            }
            let has = |plugin| filters.iter().any(|filter| filter.plugin() == plugin);
            assert!(has(crate::Plugin::InterPodAffinity) || snapshot.nodes().iter().all(|node| naive_affinity(&asks, &snapshot, node).is_none()));
            assert_scores_are_counted(&asks, &snapshot);
        }
    }
}

/// A snapshot that was made in one go, and never counted anything before, prefers the same node.
fn assert_scores_are_counted(pod: &PodInfo, snapshot: &Snapshot) {
    let mut anew = Snapshot::default();
    anew.set_namespace(&pod.key.cluster, &pod.key.namespace, Some(namespace(snapshot.namespaces().of(&pod.key.cluster, &pod.key.namespace).clone())));
    for node in snapshot.nodes() {
        anew.set_node(node.node.clone());
        node.pods.iter().for_each(|pod| anew.place(pod.clone(), &node.name));
    }
    let choice = |snapshot: &Snapshot| crate::schedule(pod, &Needs::default(), snapshot, 0, 100, &mut |_| 0);
    assert_eq!(choice(snapshot), choice(&anew));
}
