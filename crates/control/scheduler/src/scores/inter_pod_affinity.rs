//! InterPodAffinity: nearer to the pods it prefers, farther from those it does not, as they see it too.
use super::{MAX, Score};
use crate::term::Term;
use crate::{NodeInfo, PodInfo, Snapshot};
use std::collections::HashMap;

/// What a required affinity of a pod there is worth to a pod it asks for.
const HARD_AFFINITY: i64 = 1;

pub struct InterPodAffinity {
    /// By topology key and value.
    worth: HashMap<(String, String), i64>,
}

pub fn prepare(pod: &PodInfo, snapshot: &Snapshot) -> Option<InterPodAffinity> {
    let mut worth = HashMap::new();
    let own = !pod.preferred.is_empty() || !pod.preferred_anti.is_empty();
    let mut look = |node: &NodeInfo| node.pods.iter().for_each(|other| count(&mut worth, pod, other, node, snapshot));
    if own {
        snapshot.nodes().iter().for_each(&mut look)
    } else {
        snapshot.nodes_with_affinity().for_each(&mut look)
    }
    (!worth.is_empty()).then_some(InterPodAffinity { worth })
}

fn count(worth: &mut HashMap<(String, String), i64>, pod: &PodInfo, other: &PodInfo, node: &NodeInfo, snapshot: &Snapshot) {
    if other.key.cluster != pod.key.cluster {
        return;
    }
    let mut add = |term: &Term, by: i64| {
        if let Some(value) = node.label(&term.topology_key) {
            *worth.entry((term.topology_key.clone(), value.to_owned())).or_default() += by;
        }
    };
    let namespaces = &snapshot.namespaces;
    for (sign, mine, theirs) in [(1, &pod.preferred, &other.preferred), (-1, &pod.preferred_anti, &other.preferred_anti)] {
        mine.iter().filter(|(_, term)| term.matches(&pod.key.cluster, other, namespaces)).for_each(|(weight, term)| add(term, sign * weight));
        theirs.iter().filter(|(_, term)| term.matches(&other.key.cluster, pod, namespaces)).for_each(|(weight, term)| add(term, sign * weight));
    }
    other.affinity.iter().filter(|term| term.matches(&other.key.cluster, pod, namespaces)).for_each(|term| add(term, HARD_AFFINITY));
}

impl Score for InterPodAffinity {
    fn weight(&self) -> i64 {
        2
    }

    fn score(&self, node: &NodeInfo) -> i64 {
        self.worth.iter().filter(|((key, value), _)| node.label(key) == Some(value)).map(|(_, worth)| worth).sum()
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
