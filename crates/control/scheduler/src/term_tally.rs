//! Terms of affinity over placed pods: what a pod's own terms mean, and what the terms of pods that are placed ask for.
use crate::snapshot::NamespaceLabels;
use crate::tallies::Question;
use crate::term::Term;
use crate::{NodeInfo, PodInfo};
use api_meta::ClusterName;
use std::collections::HashMap;
use std::sync::Arc;

/// A number for each value of a topology key. What comes to nothing is left out.
#[derive(Clone, Debug, Default)]
pub struct ByValue(HashMap<Arc<str>, i64>);

impl ByValue {
    pub fn of(&self, node: &NodeInfo, key: &str) -> i64 {
        if self.0.is_empty() {
            return 0;
        }
        node.label(key).and_then(|value| self.0.get(value)).copied().unwrap_or_default()
    }
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    pub fn add(&mut self, node: &NodeInfo, key: &str, by: i64) {
        let Some(value) = node.label(key) else { return };
        match self.0.get_mut(value) {
            Some(sum) => {
                *sum += by;
                if *sum == 0 {
                    self.0.remove(value);
                }
            }
            None if by != 0 => {
                self.0.insert(value.into(), by);
            }
            None => {}
        }
    }
}

/// Which placed pods all of these terms mean, of an owner in this cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Meant {
    pub cluster: ClusterName,
    pub terms: Vec<Term>,
}

impl Question for Meant {
    /// For each term, the pods by its topology.
    type Answer = Vec<ByValue>;

    fn count_pod(&self, counts: &mut Self::Answer, pod: &PodInfo, node: &NodeInfo, namespaces: &NamespaceLabels, by: i64) {
        if !self.terms.iter().all(|term| term.matches(&self.cluster, pod, namespaces)) {
            return;
        }
        counts.resize_with(self.terms.len(), ByValue::default);
        self.terms.iter().zip(counts).for_each(|(term, counts)| counts.add(node, &term.topology_key, by));
    }
}

/// What a required affinity of a pod there is worth to a pod it asks for.
const HARD_AFFINITY: i64 = 1;

/// The terms of placed pods, alike ones together, and where these pods are.
#[derive(Default)]
pub struct StandingTerms(HashMap<ClusterName, OfCluster>);

#[derive(Default)]
struct OfCluster {
    /// Required anti-affinity: how many pods want to be alone.
    guards: HashMap<Term, Arc<ByValue>>,
    /// All others: what being near these pods is worth.
    wishes: HashMap<Term, Arc<ByValue>>,
}

impl StandingTerms {
    pub fn pod(&mut self, pod: &PodInfo, node: &NodeInfo, by: i64) {
        if !pod.has_affinity() {
            return;
        }
        let of_cluster = self.0.entry(pod.key.cluster.clone()).or_default();
        for term in &pod.anti_affinity {
            add(&mut of_cluster.guards, term, node, by);
        }
        let wishes = &mut of_cluster.wishes;
        pod.preferred.iter().for_each(|(weight, term)| add(wishes, term, node, by * weight));
        pod.preferred_anti.iter().for_each(|(weight, term)| add(wishes, term, node, -by * weight));
        pod.affinity.iter().for_each(|term| add(wishes, term, node, by * HARD_AFFINITY));
        if of_cluster.guards.is_empty() && of_cluster.wishes.is_empty() {
            self.0.remove(&pod.key.cluster);
        }
    }

    /// The guards that mean this pod.
    pub fn guards_against(&self, pod: &PodInfo, namespaces: &NamespaceLabels) -> Vec<(&Term, Arc<ByValue>)> {
        self.0.get(&pod.key.cluster).map(|all| meaning(&all.guards, pod, namespaces)).unwrap_or_default()
    }

    /// The wishes that mean this pod.
    pub fn wishes_about(&self, pod: &PodInfo, namespaces: &NamespaceLabels) -> Vec<(&Term, Arc<ByValue>)> {
        self.0.get(&pod.key.cluster).map(|all| meaning(&all.wishes, pod, namespaces)).unwrap_or_default()
    }
}

fn meaning<'a>(terms: &'a HashMap<Term, Arc<ByValue>>, pod: &PodInfo, namespaces: &NamespaceLabels) -> Vec<(&'a Term, Arc<ByValue>)> {
    let meant = terms.iter().filter(|(term, _)| term.matches(&pod.key.cluster, pod, namespaces));
    meant.map(|(term, values)| (term, values.clone())).collect()
}

fn add(terms: &mut HashMap<Term, Arc<ByValue>>, term: &Term, node: &NodeInfo, by: i64) {
    if !terms.contains_key(term) {
        terms.insert(term.clone(), Arc::default());
    }
    let Some(values) = terms.get_mut(term) else { return };
    Arc::make_mut(values).add(node, &term.topology_key, by);
    if values.is_empty() {
        terms.remove(term);
    }
}
