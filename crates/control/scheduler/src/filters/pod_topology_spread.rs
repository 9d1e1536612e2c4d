//! PodTopologySpread: pods alike are spread evenly over parts of the nodes.
use super::Filter;
use crate::fit_error::Rejection;
use crate::term::of_own_labels;
use crate::{NodeInfo, Plugin, PodInfo, Snapshot};
use api_meta::LabelSelector;
use api_meta::label_selector::Operator;
use controller_kit::node_selector::RequiredNodes;
use controller_kit::selector;
use controller_kit::tolerations::any_tolerates;
use std::collections::HashMap;

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
    /// Whether the constraint counts this pod: alike, in the same namespace, and staying.
    pub fn counts(&self, pod: &PodInfo, other: &PodInfo) -> bool {
        other.key.cluster == pod.key.cluster
            && other.key.namespace == pod.key.namespace
            && !other.is_terminating()
            && self.selector.matches(&other.pod.metadata.labels)
    }

    /// Whether the node belongs to the parts over which pods are spread.
    pub fn includes(&self, pod: &PodInfo, required: &RequiredNodes, node: &NodeInfo) -> bool {
        if self.honor_affinity && !required.matches(node.own_name(), node.labels()) {
            return false;
        }
        let tolerations = pod.pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
        !self.honor_taints || node.taints().iter().filter(|taint| taint.effect != "PreferNoSchedule").all(|taint| any_tolerates(tolerations, taint))
    }

    pub fn count_on(&self, pod: &PodInfo, node: &NodeInfo) -> i64 {
        node.pods.iter().filter(|other| self.counts(pod, other)).count() as i64
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

pub struct PodTopologySpread<'a> {
    pod: &'a PodInfo,
    required: RequiredNodes,
    /// With the pods counted in each part.
    constraints: Vec<(Constraint, HashMap<String, i64>)>,
}

pub fn prepare<'a>(pod: &'a PodInfo, snapshot: &Snapshot) -> Option<PodTopologySpread<'a>> {
    let constraints = constraints(pod, "DoNotSchedule");
    if constraints.is_empty() {
        return None;
    }
    let required = pod.pod.spec.as_ref().map(RequiredNodes::of).unwrap_or_default();
    let mut counted: Vec<(Constraint, HashMap<String, i64>)> = constraints.into_iter().map(|constraint| (constraint, HashMap::new())).collect();
    for node in snapshot.nodes() {
        // Only nodes that are in a part of every constraint count for any.
        if counted.iter().any(|(constraint, _)| node.label(&constraint.topology_key).is_none()) {
            continue;
        }
        for (constraint, counts) in &mut counted {
            if constraint.includes(pod, &required, node)
                && let Some(part) = node.label(&constraint.topology_key)
            {
                let here = constraint.count_on(pod, node);
                match counts.get_mut(part) {
                    Some(count) => *count += here,
                    None => {
                        counts.insert(part.to_owned(), here);
                    }
                }
            }
        }
    }
    Some(PodTopologySpread { pod, required, constraints: counted })
}

impl Filter for PodTopologySpread<'_> {
    fn plugin(&self) -> Plugin {
        Plugin::PodTopologySpread
    }

    fn check(&self, node: &NodeInfo) -> Result<(), Rejection> {
        for (constraint, counts) in &self.constraints {
            let Some(part) = node.label(&constraint.topology_key) else {
                return Err(Rejection::unresolvable("node(s) didn't match pod topology spread constraints (missing required label)"));
            };
            let least = if counts.len() < constraint.min_domains { 0 } else { counts.values().copied().min().unwrap_or_default() };
            let own = i64::from(constraint.selector.matches(&self.pod.pod.metadata.labels));
            let here = counts.get(part).copied().unwrap_or_default();
            if here + own - least > constraint.max_skew {
                return Err(Rejection::resolvable("node(s) didn't match pod topology spread constraints"));
            }
        }
        Ok(())
    }

    fn imagine(&mut self, pod: &PodInfo, node: &NodeInfo, by: i64) {
        for (constraint, counts) in &mut self.constraints {
            if constraint.counts(self.pod, pod)
                && constraint.includes(self.pod, &self.required, node)
                && let Some(count) = node.label(&constraint.topology_key).and_then(|part| counts.get_mut(part))
            {
                *count += by;
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
