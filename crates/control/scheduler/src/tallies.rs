//! Tallies: counts of placed pods that were asked for once and are kept right from then on, so that none is counted again.
use crate::snapshot::NamespaceLabels;
use crate::{NodeInfo, PodInfo};
use api_meta::ClusterName;
use std::collections::HashMap;
use std::sync::Arc;

/// What is counted. Two equal questions have one answer.
pub trait Question: PartialEq {
    type Answer: Clone + Default;

    /// The node comes (`by` 1) or goes (`by` -1), without its pods.
    fn count_node(&self, _answer: &mut Self::Answer, _node: &NodeInfo, _by: i64) {}

    /// The pod comes to the node or goes from it.
    fn count_pod(&self, answer: &mut Self::Answer, pod: &PodInfo, node: &NodeInfo, namespaces: &NamespaceLabels, by: i64);
}

/// More questions than this are not remembered: each costs something at every pod that comes or goes in its cluster.
const MOST: usize = 256;

struct Kept<Q: Question> {
    question: Q,
    answer: Arc<Q::Answer>,
    asked: u64,
}

/// Questions that were asked lately, of each cluster, with their answers.
pub struct Tallies<Q: Question> {
    kept: HashMap<ClusterName, Vec<Kept<Q>>>,
    asked: u64,
}

impl<Q: Question> Default for Tallies<Q> {
    fn default() -> Self {
        Self { kept: HashMap::new(), asked: 0 }
    }
}

impl<Q: Question> Tallies<Q> {
    /// The answer about a cluster's pods on these nodes, from memory or counted now.
    pub fn ask(&mut self, cluster: &ClusterName, question: Q, nodes: &[NodeInfo], namespaces: &NamespaceLabels) -> Arc<Q::Answer> {
        self.asked += 1;
        let asked = self.asked;
        if let Some(kept) = self.kept.get_mut(cluster).and_then(|all| all.iter_mut().find(|kept| kept.question == question)) {
            kept.asked = asked;
            return kept.answer.clone();
        }
        if self.kept.values().map(Vec::len).sum::<usize>() >= MOST {
            self.forget_one();
        }
        let mut answer = Q::Answer::default();
        nodes.iter().for_each(|node| count(&question, &mut answer, cluster, node, namespaces, 1));
        let answer = Arc::new(answer);
        self.kept.entry(cluster.clone()).or_default().push(Kept { question, answer: answer.clone(), asked });
        answer
    }

    pub fn pod(&mut self, pod: &PodInfo, node: &NodeInfo, namespaces: &NamespaceLabels, by: i64) {
        for kept in self.kept.get_mut(&pod.key.cluster).into_iter().flatten() {
            kept.question.count_pod(Arc::make_mut(&mut kept.answer), pod, node, namespaces, by);
        }
    }

    /// A node with all its pods comes or goes.
    pub fn node(&mut self, node: &NodeInfo, namespaces: &NamespaceLabels, by: i64) {
        for (cluster, all) in &mut self.kept {
            for kept in all {
                count(&kept.question, Arc::make_mut(&mut kept.answer), cluster, node, namespaces, by);
            }
        }
    }

    /// What a cluster asked is forgotten where it is `wrong` from now on.
    pub fn forget(&mut self, cluster: &ClusterName, wrong: impl Fn(&Q) -> bool) {
        if let Some(all) = self.kept.get_mut(cluster) {
            all.retain(|kept| !wrong(&kept.question));
        }
    }

    /// The cluster with the most loses what it has not asked for longest, so that nobody pushes the others out.
    fn forget_one(&mut self) {
        let Some((cluster, all)) = self.kept.iter_mut().max_by_key(|(_, all)| all.len()) else { return };
        if let Some(at) = (0..all.len()).min_by_key(|at| all[*at].asked) {
            all.swap_remove(at);
        }
        if all.is_empty() {
            let cluster = cluster.clone();
            self.kept.remove(&cluster);
        }
    }
}

fn count<Q: Question>(question: &Q, answer: &mut Q::Answer, cluster: &ClusterName, node: &NodeInfo, namespaces: &NamespaceLabels, by: i64) {
    if by > 0 {
        question.count_node(answer, node, by);
    }
    node.pods.iter().filter(|pod| pod.key.cluster == *cluster).for_each(|pod| question.count_pod(answer, pod, node, namespaces, by));
    if by < 0 {
        question.count_node(answer, node, by);
    }
}
