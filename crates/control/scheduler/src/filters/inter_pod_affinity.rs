//! InterPodAffinity: pods that must be together, and pods that must be apart.
use super::Filter;
use crate::fit_error::Rejection;
use crate::term::Term;
use crate::{NodeInfo, Plugin, PodInfo, Snapshot};
use std::collections::HashMap;

/// How many pods match, by topology key and value.
type Counts = HashMap<(String, String), i64>;

pub struct InterPodAffinity<'a> {
    pod: &'a PodInfo,
    snapshot: &'a Snapshot,
    /// Pods there whose anti-affinity means this pod.
    against: Counts,
    together: Counts,
    apart: Counts,
    /// The pod itself is one its affinity asks for: then it may be the first.
    may_be_first: bool,
}

pub fn prepare<'a>(pod: &'a PodInfo, snapshot: &'a Snapshot) -> Option<InterPodAffinity<'a>> {
    let namespaces = &snapshot.namespaces;
    let own = !pod.affinity.is_empty() || pod.affinity_is_void || !pod.anti_affinity.is_empty();
    let mut filter = InterPodAffinity {
        pod,
        snapshot,
        against: Counts::new(),
        together: Counts::new(),
        apart: Counts::new(),
        may_be_first: pod.affinity.iter().all(|term| term.matches(&pod.key.cluster, pod, namespaces)),
    };
    if own {
        for node in snapshot.nodes() {
            for other in &node.pods {
                filter.count(other, node, 1);
            }
        }
    } else {
        for node in snapshot.nodes_with_affinity() {
            for other in node.pods.iter().filter(|other| !other.anti_affinity.is_empty()) {
                filter.count(other, node, 1);
            }
        }
    }
    (own || !filter.against.is_empty()).then_some(filter)
}

fn add(counts: &mut Counts, term: &Term, node: &NodeInfo, by: i64) {
    if let Some(value) = node.label(&term.topology_key) {
        *counts.entry((term.topology_key.clone(), value.to_owned())).or_default() += by;
    }
}

fn has(counts: &Counts, key: &str, value: &str) -> bool {
    counts.get(&(key.to_owned(), value.to_owned())).is_some_and(|count| *count > 0)
}

impl InterPodAffinity<'_> {
    fn count(&mut self, other: &PodInfo, node: &NodeInfo, by: i64) {
        if other.key.cluster != self.pod.key.cluster {
            return;
        }
        let (pod, namespaces) = (self.pod, &self.snapshot.namespaces);
        for term in other.anti_affinity.iter().filter(|term| term.matches(&other.key.cluster, pod, namespaces)) {
            add(&mut self.against, term, node, by);
        }
        let means = |term: &Term| term.matches(&pod.key.cluster, other, namespaces);
        if !pod.affinity.is_empty() && pod.affinity.iter().all(means) {
            pod.affinity.iter().for_each(|term| add(&mut self.together, term, node, by));
        }
        pod.anti_affinity.iter().filter(|term| means(term)).for_each(|term| add(&mut self.apart, term, node, by));
    }

    fn is_together(&self, node: &NodeInfo) -> bool {
        let mut all_there = !self.pod.affinity_is_void;
        for term in &self.pod.affinity {
            let Some(value) = node.label(&term.topology_key) else { return false };
            all_there &= has(&self.together, &term.topology_key, value);
        }
        all_there || (!self.pod.affinity_is_void && self.together.values().all(|count| *count <= 0) && self.may_be_first)
    }
}

impl Filter for InterPodAffinity<'_> {
    fn plugin(&self) -> Plugin {
        Plugin::InterPodAffinity
    }

    fn check(&self, node: &NodeInfo) -> Result<(), Rejection> {
        if !self.is_together(node) {
            return Err(Rejection::unresolvable("node(s) didn't match pod affinity rules"));
        }
        if !self.apart.is_empty()
            && self.pod.anti_affinity.iter().any(|term| node.label(&term.topology_key).is_some_and(|value| has(&self.apart, &term.topology_key, value)))
        {
            return Err(Rejection::resolvable("node(s) didn't match pod anti-affinity rules"));
        }
        if !self.against.is_empty() && node.labels().iter().flatten().any(|(key, value)| has(&self.against, key, value)) {
            return Err(Rejection::resolvable("node(s) didn't satisfy existing pods anti-affinity rules"));
        }
        Ok(())
    }

    fn imagine(&mut self, pod: &PodInfo, node: &NodeInfo, by: i64) {
        self.count(pod, node, by);
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use api_meta::ClusterName;
    use serde_json::{Value, json};

    fn term(kind: &str, app: &str, with: Value) -> Value {
        let mut term = json!({"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": app}}});
        merge(&mut term, with);
        json!({"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}})
    }

    fn two(pods: &[(std::sync::Arc<crate::PodInfo>, &str)]) -> crate::Snapshot {
        snapshot(vec![node("n1", json!({})), node("n2", json!({}))], pods)
    }

    #[test]
    fn affinity_follows_and_anti_affinity_avoids() {
        let there = two(&[(pod("db", json!({})), "n2")]);
        assert_eq!(outcome(&pod("web", term("podAffinity", "db", json!({}))), &there), "n2");
        assert_eq!(outcome(&pod("web", term("podAntiAffinity", "db", json!({}))), &there), "n1");
        assert_eq!(outcome(&pod("web", term("podAffinity", "none", json!({}))), &there), "0/2 nodes are available: 2 node(s) didn't match pod affinity rules.");
    }

    #[test]
    fn the_first_of_its_kind_may_go_anywhere() {
        assert_eq!(outcome(&pod("web", term("podAffinity", "web", json!({}))), &two(&[])), "n1");
    }

    #[test]
    fn pods_there_keep_others_away_but_not_other_clusters_pods() {
        let guard = |cluster: &ClusterName, name: &str| pod_in(cluster, name, term("podAntiAffinity", "web", json!({})));
        let root = ClusterName::root();
        let guarded = two(&[(guard(&root, "g1"), "n1"), (guard(&root, "g2"), "n2")]);
        assert_eq!(outcome(&pod("web", json!({})), &guarded), "0/2 nodes are available: 2 node(s) didn't satisfy existing pods anti-affinity rules.");
        let tenant = ClusterName::parse("tenant").unwrap();
        assert_eq!(outcome(&pod_in(&tenant, "web", json!({})), &guarded), "n1");
    }

    #[test]
    fn namespaces_are_chosen_by_name_or_label() {
        let there = two(&[(pod("db", json!({})), "n2")]);
        assert!(outcome(&pod("web", term("podAffinity", "db", json!({"namespaces": ["other"]}))), &there).starts_with("0/2"));
        assert_eq!(outcome(&pod("web", term("podAffinity", "db", json!({"namespaceSelector": {}}))), &there), "n2");
        let mut labelled = there;
        let team = |team: &str| term("podAffinity", "db", json!({"namespaceSelector": {"matchLabels": {"team": team}}}));
        labelled.namespaces.set(&ClusterName::root(), &"n".into(), Some([("team".to_owned(), "a".to_owned())].into()));
        assert_eq!(outcome(&pod("web", team("a")), &labelled), "n2");
        assert!(outcome(&pod("web", team("b")), &labelled).starts_with("0/2"));
    }
}
