//! How many pods alike there are in each part of the nodes, for topology spread.
use crate::snapshot::NamespaceLabels;
use crate::tallies::Question;
use crate::{NodeInfo, PodInfo};
use api_meta::{ClusterName, LabelSelector};
use controller_kit::node_selector::RequiredNodes;
use controller_kit::own_nodes::owner;
use controller_kit::tolerations::any_tolerates;
use k8s_openapi::api::core::v1::Toleration;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// What makes a part of the nodes.
#[derive(Clone, Debug, PartialEq)]
pub enum PartBy {
    Label(String),
    /// Each node is a part, whatever its labels.
    Node,
}

/// Which pods to count, and on which nodes.
#[derive(Clone, Debug, PartialEq)]
pub struct Spread {
    pub cluster: ClusterName,
    pub namespace: Arc<str>,
    pub selector: LabelSelector,
    pub part_by: PartBy,
    /// Only nodes with all of these labels count.
    pub keys: Vec<String>,
    /// Whether the pods run on nodes of the cluster's own.
    pub own_nodes: bool,
    /// Only nodes that can be taken by this count, if it is to be honored.
    pub required: Option<RequiredNodes>,
    /// Only nodes whose taints these tolerate count, if they are to be honored.
    pub tolerations: Option<Vec<Toleration>>,
}

/// Parts of the nodes with the pods in each.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    parts: HashMap<Arc<str>, Part>,
    /// How many parts hold so many pods: tells the least without looking at all.
    levels: BTreeMap<i64, usize>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Part {
    nodes: i64,
    pods: i64,
}

impl Parts {
    pub fn len(&self) -> usize {
        self.parts.len()
    }
    /// Pods in the part; `None` where no such part is.
    pub fn pods_in(&self, part: &str) -> Option<i64> {
        self.parts.get(part).map(|part| part.pods)
    }
    /// How many pods the emptiest part has.
    pub fn least(&self) -> i64 {
        self.levels.first_key_value().map(|(level, _)| *level).unwrap_or_default()
    }

    pub fn add_pods(&mut self, name: &str, by: i64) {
        let Some(part) = self.parts.get_mut(name) else { return };
        leave(&mut self.levels, part.pods);
        part.pods += by;
        *self.levels.entry(part.pods).or_default() += 1;
    }

    fn add_nodes(&mut self, name: &str, by: i64) {
        if !self.parts.contains_key(name) {
            self.parts.insert(name.into(), Part::default());
            *self.levels.entry(0).or_default() += 1;
        }
        let Some(part) = self.parts.get_mut(name) else { return };
        part.nodes += by;
        if part.nodes <= 0 {
            leave(&mut self.levels, part.pods);
            self.parts.remove(name);
        }
    }
}

fn leave(levels: &mut BTreeMap<i64, usize>, level: i64) {
    if let Some(parts) = levels.get_mut(&level) {
        *parts -= 1;
        if *parts == 0 {
            levels.remove(&level);
        }
    }
}

impl Spread {
    /// The part a node is in, if it counts at all.
    pub fn part_of<'a>(&self, node: &'a NodeInfo) -> Option<&'a str> {
        let of_its_nodes = owner(&node.name).map(|(cluster, _)| cluster) == self.own_nodes.then(|| self.cluster.as_str());
        let reachable = || self.required.as_ref().is_none_or(|required| required.matches(node.own_name(), node.labels()));
        let hard = || node.taints().iter().filter(|taint| taint.effect != "PreferNoSchedule");
        let tolerated = || self.tolerations.as_ref().is_none_or(|tolerations| hard().all(|taint| any_tolerates(tolerations, taint)));
        if !of_its_nodes || !self.keys.iter().all(|key| node.label(key).is_some()) || !reachable() || !tolerated() {
            return None;
        }
        self.part(node)
    }

    pub fn part<'a>(&self, node: &'a NodeInfo) -> Option<&'a str> {
        match &self.part_by {
            PartBy::Label(key) => node.label(key),
            PartBy::Node => Some(&node.name),
        }
    }

    /// Whether it counts this pod: alike, in the same namespace, and staying.
    pub fn counts(&self, pod: &PodInfo) -> bool {
        pod.key.cluster == self.cluster && pod.key.namespace == self.namespace && !pod.is_terminating() && self.selector.matches(&pod.pod.metadata.labels)
    }
}

impl Question for Spread {
    type Answer = Parts;

    fn count_node(&self, parts: &mut Parts, node: &NodeInfo, by: i64) {
        if let Some(part) = self.part_of(node) {
            parts.add_nodes(part, by);
        }
    }

    fn count_pod(&self, parts: &mut Parts, pod: &PodInfo, node: &NodeInfo, _namespaces: &NamespaceLabels, by: i64) {
        if self.counts(pod)
            && let Some(part) = self.part_of(node)
        {
            parts.add_pods(part, by);
        }
    }
}
