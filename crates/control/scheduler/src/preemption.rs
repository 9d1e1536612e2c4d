//! Preemption: whose going would make room for a more important pod, at the least cost.
use crate::filters::{self, Filter};
use crate::schedule::check;
use crate::{FitError, Needs, NodeInfo, PodInfo, Snapshot};
use controller_kit::selector;
use jiff::Timestamp;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use std::cmp::Reverse;
use std::sync::Arc;

/// A node, and the pods that must go from it.
#[derive(Debug)]
pub struct Preemption {
    pub node: Arc<str>,
    pub victims: Vec<Arc<PodInfo>>,
}

struct Candidate {
    at: usize,
    victims: Vec<Arc<PodInfo>>,
    violations: usize,
}

/// Finds room for a pod that fits nowhere, or says why there is none.
///
/// Where nodes are many, the search begins at the node in place `start` and ends with enough to choose from, as upstream's does.
///
/// INVARIANT: victims are of the pod's own cluster. Priorities are each cluster's own; across clusters they mean nothing.
///
/// # Errors
/// Why there is no room to be made, in upstream's words.
pub fn preempt(
    pod: &PodInfo,
    needs: &Needs,
    snapshot: &Snapshot,
    error: &FitError,
    budgets: &[Arc<PodDisruptionBudget>],
    start: usize,
) -> Result<Preemption, String> {
    let spec = pod.pod.spec.as_ref();
    if spec.and_then(|spec| spec.preemption_policy.as_deref()) == Some("Never") {
        return Err("preemption: not eligible due to preemptionPolicy=Never.".into());
    }
    let nominated = pod.pod.status.as_ref().and_then(|status| status.nominated_node_name.as_deref());
    let waits = nominated.and_then(|name| snapshot.node(name)).is_some_and(|node| node.pods.iter().any(|other| is_prey(pod, other) && other.is_terminating()));
    if waits {
        return Err("preemption: not eligible due to a terminating pod on the nominated node.".into());
    }
    let mut helpless = FitError { all_nodes: error.all_nodes, ..FitError::default() };
    let rest = error.all_nodes - error.resolvable.len();
    if rest > 0 {
        helpless.reasons.insert("Preemption is not helpful for scheduling".into(), rest);
    }
    let mut filters = filters::prepare(pod, needs, snapshot);
    let mut candidates: Vec<Candidate> = Vec::new();
    let (hopeful, enough) = (error.resolvable.len(), enough(error.resolvable.len()));
    for at in error.resolvable.iter().cycle().skip(start % hopeful.max(1)).take(hopeful) {
        if candidates.len() >= enough && candidates.iter().any(|candidate| candidate.violations == 0) {
            break;
        }
        match victims_on(pod, &snapshot.nodes()[*at], &mut filters, budgets) {
            Ok((victims, violations)) => candidates.push(Candidate { at: *at, victims, violations }),
            Err(reason) => *helpless.reasons.entry(reason.into()).or_default() += 1,
        }
    }
    match candidates.into_iter().min_by_key(cost) {
        Some(Candidate { at, victims, .. }) => Ok(Preemption { node: snapshot.nodes()[at].name.clone(), victims }),
        None => Err(format!("preemption: {helpless}")),
    }
}

/// How many candidates suffice: a tenth of the nodes, and at least a hundred.
fn enough(hopeful: usize) -> usize {
    (hopeful / 10).max(100)
}

/// Fewest broken budgets, then the least important worst victim, the smallest sum, the fewest victims, the
/// youngest of the most important.
fn cost(candidate: &Candidate) -> (usize, i32, i64, usize, Reverse<Option<Timestamp>>) {
    let started = |pod: &Arc<PodInfo>| pod.pod.status.as_ref().and_then(|status| status.start_time.as_ref()).map(|time| time.0);
    let highest = candidate.victims.iter().map(|victim| victim.priority).max().unwrap_or(i32::MIN);
    // Shifted to be positive, so that fewer victims of low priority cost less than more.
    let sum = candidate.victims.iter().map(|victim| i64::from(victim.priority) - i64::from(i32::MIN)).sum();
    let eldest = candidate.victims.iter().filter(|victim| victim.priority == highest).filter_map(started).min();
    (candidate.violations, highest, sum, candidate.victims.len(), Reverse(eldest))
}

fn is_prey(pod: &PodInfo, other: &PodInfo) -> bool {
    other.key.cluster == pod.key.cluster && other.priority < pod.priority
}

/// All less important pods go in thought; then as many as can stay are let back, the most important first.
fn victims_on(
    pod: &PodInfo,
    node: &NodeInfo,
    filters: &mut [Box<dyn Filter + '_>],
    budgets: &[Arc<PodDisruptionBudget>],
) -> Result<(Vec<Arc<PodInfo>>, usize), &'static str> {
    let mut prey: Vec<Arc<PodInfo>> = node.pods.iter().filter(|other| is_prey(pod, other)).cloned().collect();
    if prey.is_empty() {
        return Err("No preemption victims found for incoming pod");
    }
    let mut imagined = node.clone();
    for other in &prey {
        move_pod(filters, &mut imagined, other, -1);
    }
    if check(filters, &imagined).is_err() {
        prey.iter().for_each(|other| move_pod(filters, &mut imagined, other, 1));
        return Err("No preemption victims found for incoming pod");
    }
    let started = |pod: &PodInfo| pod.pod.status.as_ref().and_then(|status| status.start_time.as_ref()).map(|time| time.0);
    prey.sort_by(|a, b| b.priority.cmp(&a.priority).then_with(|| started(a).cmp(&started(b))));
    let (protected, free) = split_by_budgets(prey, budgets);
    let (mut victims, mut violations) = (Vec::new(), 0);
    for (other, is_protected) in protected.into_iter().map(|p| (p, true)).chain(free.into_iter().map(|p| (p, false))) {
        move_pod(filters, &mut imagined, &other, 1);
        if check(filters, &imagined).is_err() {
            move_pod(filters, &mut imagined, &other, -1);
            violations += usize::from(is_protected);
            victims.push(other);
        }
    }
    // The filters are used for the next node: nobody is gone for them.
    victims.iter().for_each(|other| move_pod(filters, &mut imagined, other, 1));
    Ok((victims, violations))
}

fn move_pod(filters: &mut [Box<dyn Filter + '_>], node: &mut NodeInfo, pod: &Arc<PodInfo>, by: i64) {
    filters.iter_mut().for_each(|filter| filter.imagine(pod, node, by));
    if by < 0 { node.remove(pod) } else { node.add(pod.clone()) }
}

/// Those whose going would break a disruption budget, and the others.
fn split_by_budgets(pods: Vec<Arc<PodInfo>>, budgets: &[Arc<PodDisruptionBudget>]) -> (Vec<Arc<PodInfo>>, Vec<Arc<PodInfo>>) {
    let mut allowed: Vec<i32> = budgets.iter().map(|budget| budget.status.as_ref().and_then(|status| status.disruptions_allowed).unwrap_or_default()).collect();
    pods.into_iter().partition(|pod| {
        let mut breaks = false;
        for (budget, left) in budgets.iter().zip(&mut allowed) {
            let covers = budget.metadata.namespace.as_deref() == Some(&pod.key.namespace)
                && budget
                    .spec
                    .as_ref()
                    .and_then(|spec| spec.selector.as_ref())
                    .and_then(|of| selector(of).ok())
                    .is_some_and(|of| of.matches(&pod.pod.metadata.labels));
            let counted = budget.status.as_ref().is_some_and(|status| status.disrupted_pods.iter().flatten().any(|(name, _)| **name == *pod.key.name));
            if covers && !counted {
                *left -= 1;
                breaks |= *left < 0;
            }
        }
        breaks
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use serde_json::json;

    fn of(name: &str, priority: i32, cpu: &str) -> Arc<PodInfo> {
        let mut spec = requests(cpu, "0");
        spec["priority"] = json!(priority);
        pod(name, spec)
    }

    fn result(pod: &PodInfo, snapshot: &Snapshot, budgets: &[Arc<PodDisruptionBudget>]) -> String {
        let error = attempt(pod, snapshot).unwrap_err();
        match preempt(pod, &Needs::default(), snapshot, &error, budgets, 0) {
            Ok(found) => format!("{}: {}", found.node, found.victims.iter().map(|v| v.key.name.to_string()).collect::<Vec<_>>().join(",")),
            Err(message) => message,
        }
    }

    #[test]
    fn as_few_and_as_unimportant_pods_as_can_be_go() {
        let nodes = || vec![node("n1", json!({})), node("n2", json!({}))];
        let world = snapshot(nodes(), &[(of("a1", 5, "2"), "n1"), (of("a2", 1, "2"), "n1"), (of("b1", 3, "2"), "n2"), (of("b2", 3, "2"), "n2")]);
        assert_eq!(result(&of("x", 10, "2"), &world, &[]), "n1: a2");
        assert_eq!(result(&of("x", 10, "4"), &world, &[]), "n2: b1,b2");
        assert_eq!(result(&of("x", 1, "2"), &world, &[]), "preemption: 0/2 nodes are available: 2 No preemption victims found for incoming pod.");
        assert_eq!(result(&of("x", 10, "5"), &world, &[]), "preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling.");
    }

    #[test]
    fn budgets_are_kept_if_they_can_be() {
        let budget: PodDisruptionBudget = serde_json::from_value(
            json!({"metadata": {"name": "b", "namespace": "n"}, "spec": {"selector": {"matchLabels": {"app": "a"}}}, "status": {"disruptionsAllowed": 0}}),
        )
        .unwrap();
        let world = snapshot(vec![node("n1", json!({})), node("n2", json!({}))], &[(of("a1", 1, "4"), "n1"), (of("b1", 3, "4"), "n2")]);
        assert_eq!(result(&of("x", 10, "2"), &world, &[Arc::new(budget)]), "n2: b1");
    }

    #[test]
    fn other_clusters_pods_never_go() {
        let tenant = api_meta::ClusterName::parse("tenant").unwrap();
        let world = snapshot(vec![node("n1", json!({}))], &[(pod_in(&tenant, "a", requests("4", "0")), "n1")]);
        assert_eq!(result(&of("x", 10, "2"), &world, &[]), "preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.");
    }

    #[test]
    fn anti_affinity_can_be_solved_by_going() {
        let mut spec = json!({"priority": 10, "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
            [{"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "a"}}}]}}});
        let world = snapshot(vec![node("n1", json!({}))], &[(of("a1", 1, "1"), "n1"), (of("b", 1, "1"), "n1")]);
        assert_eq!(result(&pod("x", spec.clone()), &world, &[]), "n1: a1");
        spec["preemptionPolicy"] = json!("Never");
        assert_eq!(result(&pod("x", spec), &world, &[]), "preemption: not eligible due to preemptionPolicy=Never.");
    }
}
