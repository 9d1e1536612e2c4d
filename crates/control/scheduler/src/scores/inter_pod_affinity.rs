//! InterPodAffinity: nearer to the pods it prefers, farther from those it does not, as they see it too.
use super::{MAX, Score};
use crate::term::Term;
use crate::term_tally::{ByValue, Meant};
use crate::{NodeInfo, PodInfo, Snapshot};
use std::sync::Arc;

pub struct InterPodAffinity<'a> {
    /// What pods there think of it, by the topology of their terms.
    theirs: Vec<(&'a Term, Arc<ByValue>)>,
    /// What it thinks of pods there: the worth of each, and how many there are.
    mine: Vec<(i64, &'a Term, Arc<Vec<ByValue>>)>,
}

pub fn prepare<'a>(pod: &'a PodInfo, snapshot: &'a Snapshot) -> Option<InterPodAffinity<'a>> {
    let theirs = snapshot.standing().wishes_about(pod, snapshot.namespaces());
    let near = pod.preferred.iter().map(|(weight, term)| (*weight, term));
    let far = pod.preferred_anti.iter().map(|(weight, term)| (-weight, term));
    let meant = |term: &Term| snapshot.meant(Meant { cluster: pod.key.cluster.clone(), terms: vec![term.clone()] });
    let mine: Vec<_> = near.chain(far).map(|(weight, term)| (weight, term, meant(term))).filter(|(_, _, counts)| !counts.is_empty()).collect();
    (!theirs.is_empty() || !mine.is_empty()).then_some(InterPodAffinity { theirs, mine })
}

impl Score for InterPodAffinity<'_> {
    fn weight(&self) -> i64 {
        2
    }

    fn score(&self, node: &NodeInfo) -> i64 {
        let theirs: i64 = self.theirs.iter().map(|(term, worth)| worth.of(node, &term.topology_key)).sum();
        let there = |term: &Term, counts: &[ByValue]| counts.iter().map(|counts| counts.of(node, &term.topology_key)).sum::<i64>();
        theirs + self.mine.iter().map(|(weight, term, counts)| weight * there(term, counts)).sum::<i64>()
    }

    fn normalize(&self, scores: &mut [i64]) {
        let (least, most) = (scores.iter().copied().min().unwrap_or_default(), scores.iter().copied().max().unwrap_or_default());
        for score in scores {
            *score = if most > least { MAX * (*score - least) / (most - least) } else { 0 };
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use serde_json::json;

    #[test]
    fn preferences_of_both_sides_count() {
        let prefers = |kind: &str, app: &str| {
            json!({"affinity": {kind: {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 10, "podAffinityTerm":
                {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": app}}}}]}}})
        };
        let nodes = || vec![node("n1", json!({})), node("n2", json!({}))];
        let db = snapshot(nodes(), &[(pod("db", json!({})), "n2")]);
        assert_eq!(outcome(&pod("web", prefers("podAffinity", "db")), &db), "n2");
        assert_eq!(outcome(&pod("web", prefers("podAntiAffinity", "db")), &db), "n1");
        let asking = snapshot(nodes(), &[(pod("db", prefers("podAffinity", "web")), "n2")]);
        assert_eq!(outcome(&pod("web", json!({})), &asking), "n2");
    }
}
