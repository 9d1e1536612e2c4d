//! PodTopologySpread: pods alike are spread evenly over parts of the nodes.
use super::Filter;
use crate::fit_error::Rejection;
use crate::spread_tally::{PartBy, Parts, Spread};
use crate::term::of_own_labels;
use crate::{NodeInfo, Plugin, PodInfo, Snapshot};
use api_meta::LabelSelector;
use api_meta::label_selector::Operator;
use controller_kit::node_selector::RequiredNodes;
use controller_kit::own_nodes::runs_on_own;
use controller_kit::selector;
use std::sync::Arc;

/// A constraint, ready to be matched.
pub struct Constraint {
    pub max_skew: i64,
    pub topology_key: String,
    pub selector: LabelSelector,
    min_domains: usize,
    honor_affinity: bool,
    honor_taints: bool,
}

impl Constraint {
    /// The question how many pods alike there are in each part.
    pub fn question(&self, pod: &PodInfo, part_by: PartBy, keys: &[String]) -> Spread {
        let spec = pod.pod.spec.as_ref();
        let required = spec.filter(|_| self.honor_affinity).map(RequiredNodes::of).filter(|required| !required.is_any());
        let tolerations = || spec.and_then(|spec| spec.tolerations.clone()).unwrap_or_default();
        Spread {
            cluster: pod.key.cluster.clone(),
            namespace: pod.key.namespace.clone(),
            selector: self.selector.clone(),
            part_by,
            keys: keys.to_vec(),
            own_nodes: runs_on_own(&pod.key.cluster, &pod.pod),
            required,
            tolerations: self.honor_taints.then(tolerations),
        }
    }
}

/// The pod's constraints of one sort: `DoNotSchedule` or `ScheduleAnyway`.
pub fn constraints(pod: &PodInfo, when_unsatisfiable: &str) -> Vec<Constraint> {
    let spec = pod.pod.spec.iter().flat_map(|spec| spec.topology_spread_constraints.iter().flatten());
    let of_sort = spec.filter(|constraint| constraint.when_unsatisfiable == when_unsatisfiable);
    let parse = |constraint: &k8s_openapi::api::core::v1::TopologySpreadConstraint| {
        let base = constraint.label_selector.as_ref().and_then(|of| selector(of).ok());
        // No selector means no pod, an empty one every pod.
        let mut requirements = base?.requirements().to_vec();
        requirements.extend(of_own_labels(constraint.match_label_keys.as_ref(), pod.pod.metadata.labels.as_ref(), Operator::In));
        Some(Constraint {
            max_skew: i64::from(constraint.max_skew),
            topology_key: constraint.topology_key.clone(),
            selector: LabelSelector::from_requirements(requirements),
            min_domains: usize::try_from(constraint.min_domains.unwrap_or(1)).unwrap_or(1),
            honor_affinity: constraint.node_affinity_policy.as_deref() != Some("Ignore"),
            honor_taints: constraint.node_taints_policy.as_deref() == Some("Honor"),
        })
    };
    of_sort.filter_map(parse).collect()
}

struct Counted {
    constraint: Constraint,
    question: Spread,
    parts: Arc<Parts>,
    /// Whether the pod itself is one of those counted.
    own: i64,
}

pub struct PodTopologySpread {
    constraints: Vec<Counted>,
}

pub fn prepare(pod: &PodInfo, snapshot: &Snapshot) -> Option<PodTopologySpread> {
    let constraints = constraints(pod, "DoNotSchedule");
    if constraints.is_empty() {
        return None;
    }
    // Only nodes that are in a part of every constraint count for any.
    let keys: Vec<String> = constraints.iter().map(|constraint| constraint.topology_key.clone()).collect();
    let count = |constraint: Constraint| {
        let question = constraint.question(pod, PartBy::Label(constraint.topology_key.clone()), &keys);
        let own = i64::from(constraint.selector.matches(&pod.pod.metadata.labels));
        Counted { parts: snapshot.spread(question.clone()), question, own, constraint }
    };
    Some(PodTopologySpread { constraints: constraints.into_iter().map(count).collect() })
}

impl Filter for PodTopologySpread {
    fn plugin(&self) -> Plugin {
        Plugin::PodTopologySpread
    }

    fn check(&self, node: &NodeInfo) -> Result<(), Rejection> {
        for Counted { constraint, parts, own, .. } in &self.constraints {
            let Some(part) = node.label(&constraint.topology_key) else {
                return Err(Rejection::unresolvable("node(s) didn't match pod topology spread constraints (missing required label)"));
            };
            let least = if parts.len() < constraint.min_domains { 0 } else { parts.least() };
            let here = parts.pods_in(part).unwrap_or_default();
            if here + own - least > constraint.max_skew {
                return Err(Rejection::resolvable("node(s) didn't match pod topology spread constraints"));
            }
        }
        Ok(())
    }

    fn imagine(&mut self, pod: &PodInfo, node: &NodeInfo, by: i64) {
        for Counted { question, parts, .. } in &mut self.constraints {
            if question.counts(pod)
                && let Some(part) = question.part_of(node)
            {
                Arc::make_mut(parts).add_pods(part, by);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use api_meta::ClusterName;
    use serde_json::{Value, json};

    fn zone(name: &str, zone: &str) -> std::sync::Arc<k8s_openapi::api::core::v1::Node> {
        node(name, json!({"metadata": {"labels": {"zone": zone}}}))
    }

    fn spread(with: Value) -> Value {
        let mut constraint = json!({"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"app": "a"}}});
        merge(&mut constraint, with);
        json!({"topologySpreadConstraints": [constraint]})
    }

    #[test]
    fn the_emptier_part_is_taken_and_no_part_gets_ahead() {
        let nodes = || vec![zone("n1", "x"), zone("n2", "y"), node("n3", json!({}))];
        let one = snapshot(nodes(), &[(pod("a1", json!({})), "n1")]);
        assert_eq!(outcome(&pod("a", spread(json!({}))), &one), "n2");
        let mut blocked = nodes();
        blocked[1] = node("n2", json!({"metadata": {"labels": {"zone": "y"}}, "status": {"allocatable": {"pods": "0"}}}));
        let blocked = snapshot(blocked, &[(pod("a1", json!({})), "n1")]);
        assert_eq!(
            outcome(&pod("a", spread(json!({}))), &blocked),
            "0/3 nodes are available: 1 Too many pods, 1 node(s) didn't match pod topology spread constraints, 1 node(s) didn't match pod topology spread constraints (missing required label)."
        );
        assert_eq!(outcome(&pod("a", spread(json!({"maxSkew": 2}))), &blocked), "n1");
    }

    #[test]
    fn only_own_pods_count_and_too_few_parts_count_as_empty() {
        let other = pod_in(&ClusterName::parse("tenant").unwrap(), "a1", json!({}));
        let nodes = || vec![zone("n1", "x")];
        assert_eq!(outcome(&pod("a", spread(json!({"minDomains": 2}))), &snapshot(nodes(), &[(other, "n1")])), "n1");
        let own = snapshot(nodes(), &[(pod("a1", json!({})), "n1")]);
        assert_eq!(outcome(&pod("a", spread(json!({}))), &own), "n1");
        assert!(outcome(&pod("a", spread(json!({"minDomains": 2}))), &own).starts_with("0/1"));
    }
}
