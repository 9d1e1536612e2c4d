//! InterPodAffinity: pods that must be together, and pods that must be apart.
use super::Filter;
use crate::fit_error::Rejection;
use crate::term::Term;
use crate::term_tally::{ByValue, Meant};
use crate::{NodeInfo, Plugin, PodInfo, Snapshot};
use std::sync::Arc;

pub struct InterPodAffinity<'a> {
    pod: &'a PodInfo,
    snapshot: &'a Snapshot,
    /// Terms of pods there whose anti-affinity means this pod, with where those are.
    against: Vec<(&'a Term, Arc<ByValue>)>,
    /// Pods that all terms of the affinity mean, for each of the terms.
    together: Arc<Vec<ByValue>>,
    /// Pods that each term of the anti-affinity means.
    apart: Vec<(&'a Term, Arc<Vec<ByValue>>)>,
    /// The pod itself is one its affinity asks for: then it may be the first.
    may_be_first: bool,
}

pub fn prepare<'a>(pod: &'a PodInfo, snapshot: &'a Snapshot) -> Option<InterPodAffinity<'a>> {
    let namespaces = snapshot.namespaces();
    let against = snapshot.standing().guards_against(pod, namespaces);
    if against.is_empty() && pod.affinity.is_empty() && !pod.affinity_is_void && pod.anti_affinity.is_empty() {
        return None;
    }
    let meant = |terms: &[Term]| snapshot.meant(Meant { cluster: pod.key.cluster.clone(), terms: terms.to_vec() });
    Some(InterPodAffinity {
        pod,
        snapshot,
        against,
        together: if pod.affinity.is_empty() { Arc::default() } else { meant(&pod.affinity) },
        apart: pod.anti_affinity.iter().map(|term| (term, meant(std::slice::from_ref(term)))).collect(),
        may_be_first: pod.affinity.iter().all(|term| term.matches(&pod.key.cluster, pod, namespaces)),
    })
}

impl InterPodAffinity<'_> {
    fn is_together(&self, node: &NodeInfo) -> bool {
        let mut all_there = !self.pod.affinity_is_void;
        for (at, term) in self.pod.affinity.iter().enumerate() {
            if node.label(&term.topology_key).is_none() {
                return false;
            }
            all_there &= self.together.get(at).is_some_and(|counts| counts.of(node, &term.topology_key) > 0);
        }
        all_there || (!self.pod.affinity_is_void && self.may_be_first && self.together.iter().all(ByValue::is_empty))
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
        if self.apart.iter().any(|(term, counts)| counts.iter().any(|counts| counts.of(node, &term.topology_key) > 0)) {
            return Err(Rejection::resolvable("node(s) didn't match pod anti-affinity rules"));
        }
        if self.against.iter().any(|(term, counts)| counts.of(node, &term.topology_key) > 0) {
            return Err(Rejection::resolvable("node(s) didn't satisfy existing pods anti-affinity rules"));
        }
        Ok(())
    }

    fn imagine(&mut self, other: &PodInfo, node: &NodeInfo, by: i64) {
        if other.key.cluster != self.pod.key.cluster {
            return;
        }
        for (term, counts) in &mut self.against {
            let times = other.anti_affinity.iter().filter(|theirs| theirs == term).count() as i64;
            if times > 0 {
                Arc::make_mut(counts).add(node, &term.topology_key, by * times);
            }
        }
        let (cluster, namespaces) = (&self.pod.key.cluster, self.snapshot.namespaces());
        let means = |term: &Term| term.matches(cluster, other, namespaces);
        if !self.pod.affinity.is_empty() && self.pod.affinity.iter().all(means) {
            let together = Arc::make_mut(&mut self.together);
            together.iter_mut().zip(&self.pod.affinity).for_each(|(counts, term)| counts.add(node, &term.topology_key, by));
        }
        for (term, counts) in self.apart.iter_mut().filter(|(term, _)| means(term)) {
            Arc::make_mut(counts).iter_mut().for_each(|counts| counts.add(node, &term.topology_key, by));
        }
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
        labelled.set_namespace(&ClusterName::root(), &"n".into(), Some(namespace([("team".to_owned(), "a".to_owned())].into())));
        assert_eq!(outcome(&pod("web", team("a")), &labelled), "n2");
        assert!(outcome(&pod("web", team("b")), &labelled).starts_with("0/2"));
    }
}
