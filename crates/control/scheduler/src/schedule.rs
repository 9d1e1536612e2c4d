//! schedule: the decision itself: a pod and a snapshot in, a node or the reasons why none out.
use crate::filters::{self, Filter};
use crate::fit_error::Rejection;
use crate::{FitError, Needs, NodeInfo, Plugin, PodInfo, Snapshot, scores};
use controller_kit::node_selector::RequiredNodes;
use controller_kit::own_nodes::{owner, qualified, runs_on_own};

/// Where a pod shall run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The node's place in the snapshot.
    pub node: usize,
    /// Where the next search should start, so that all nodes get their turn.
    pub next_start: usize,
}

/// Fewer nodes than this are always all looked at.
const MIN_NODES: usize = 100;

/// How many fit nodes suffice: enough to choose well, few enough to be quick.
fn enough(all: usize, percentage: usize) -> usize {
    if all < MIN_NODES || percentage >= 100 {
        return all;
    }
    let percentage = if percentage > 0 { percentage } else { 50usize.saturating_sub(all / 125).max(5) };
    (all * percentage / 100).max(MIN_NODES)
}

/// Decides where the pod runs. The search starts at node `start`; `random(n)` gives a number below n for ties.
pub fn schedule(
    pod: &PodInfo,
    needs: &Needs,
    snapshot: &Snapshot,
    start: usize,
    percentage: usize,
    random: &mut dyn FnMut(usize) -> usize,
) -> Result<Placement, FitError> {
    let concerns = |node: &NodeInfo| may_have(pod, node);
    let total = snapshot.nodes().len();
    let all =
        if snapshot.has_own_nodes() || runs_on_own(&pod.key.cluster, &pod.pod) { snapshot.nodes().iter().filter(|node| concerns(node)).count() } else { total };
    if all == 0 {
        return Err(FitError::default());
    }
    if let Some(trouble) = &needs.volumes.trouble {
        return Err(FitError::before_nodes(all, Plugin::VolumeBinding, trouble.clone()));
    }
    if let Some(trouble) = &needs.devices.trouble {
        return Err(FitError::before_nodes(all, Plugin::DynamicResources, trouble.clone()));
    }
    let mut error = FitError { all_nodes: all, ..FitError::default() };
    let filters = filters::prepare(pod, needs, snapshot);
    let fits = |node: &NodeInfo| passes(&filters, pod, snapshot, node);
    let (mut fit, mut next_start) = (Vec::new(), 0);
    match pinned(pod) {
        Some(names) => {
            let own = runs_on_own(&pod.key.cluster, &pod.pod);
            let names: Vec<String> = names.iter().map(|name| if own { qualified(&pod.key.cluster, name) } else { name.clone() }).collect();
            for at in names.iter().filter_map(|name| snapshot.index_of(name)) {
                match fits(&snapshot.nodes()[at]) {
                    Ok(()) => fit.push(at),
                    Err((plugin, rejection)) => error.reject(at, plugin, rejection),
                }
            }
            let others = all - names.iter().filter(|name| snapshot.index_of(name).is_some()).count();
            if others > 0 {
                error.reasons.insert("node(s) didn't satisfy plugin(s) [NodeAffinity]".into(), others);
                error.plugins.insert(Plugin::NodeAffinity);
            }
        }
        None => {
            let enough = enough(all, percentage);
            let mut looked = 0;
            while looked < total && fit.len() < enough {
                let at = (start + looked) % total;
                looked += 1;
                if !concerns(&snapshot.nodes()[at]) {
                    continue;
                }
                match fits(&snapshot.nodes()[at]) {
                    Ok(()) => fit.push(at),
                    Err((plugin, rejection)) => error.reject(at, plugin, rejection),
                }
            }
            next_start = (start + looked) % total;
        }
    }
    match fit[..] {
        [] => Err(error),
        [only] => Ok(Placement { node: only, next_start }),
        _ => Ok(Placement { node: best(pod, snapshot, &fit, random), next_start }),
    }
}

/// Whether a node is one of those the pod's cluster has: its own, where it has any, else the host's.
fn may_have(pod: &PodInfo, node: &NodeInfo) -> bool {
    let owner = owner(&node.name).map(|(cluster, _)| cluster);
    owner == runs_on_own(&pod.key.cluster, &pod.pod).then(|| pod.key.cluster.as_str())
}

/// The names of the only nodes that come into question, if the pod is pinned to some.
fn pinned(pod: &PodInfo) -> Option<Vec<String>> {
    let required = RequiredNodes::of(pod.pod.spec.as_ref()?);
    let mut names: Vec<String> = required.pinned()?.into_iter().map(str::to_owned).collect();
    names.sort_unstable();
    names.dedup();
    Some(names)
}

/// Whether all filters pass; also with the pods that shall run there and are not less important.
fn passes(filters: &[Box<dyn Filter + '_>], pod: &PodInfo, snapshot: &Snapshot, node: &NodeInfo) -> Result<(), (Plugin, Rejection)> {
    if snapshot.has_nominated() {
        let mut nominated = snapshot.nominated(&node.name, pod).peekable();
        if nominated.peek().is_some() {
            let mut fuller = node.clone();
            nominated.for_each(|other| fuller.add(other.clone()));
            check(filters, &fuller)?;
        }
    }
    check(filters, node)
}

pub fn check(filters: &[Box<dyn Filter + '_>], node: &NodeInfo) -> Result<(), (Plugin, Rejection)> {
    filters.iter().try_for_each(|filter| filter.check(node).map_err(|rejection| (filter.plugin(), rejection)))
}

fn best(pod: &PodInfo, snapshot: &Snapshot, fit: &[usize], random: &mut dyn FnMut(usize) -> usize) -> usize {
    let mut totals = vec![0i64; fit.len()];
    let mut column = vec![0i64; fit.len()];
    for score in scores::prepare(pod, snapshot, fit) {
        for (cell, at) in column.iter_mut().zip(fit) {
            *cell = score.score(&snapshot.nodes()[*at]);
        }
        score.normalize(&mut column);
        totals.iter_mut().zip(&column).for_each(|(total, cell)| *total += cell * score.weight());
    }
    let highest = totals.iter().copied().max().unwrap_or_default();
    let mut winners = fit.iter().zip(&totals).filter(|(_, total)| **total == highest).map(|(at, _)| *at);
    let count = winners.clone().count();
    winners.nth(if count > 1 { random(count) } else { 0 }).expect("some node has the highest score")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{node, pod, snapshot};
    use serde_json::json;

    #[test]
    fn a_clusters_own_machines_run_its_pods_and_nobody_elses() {
        use crate::testing::{outcome, pod_in};
        use api_meta::ClusterName;
        use controller_kit::own_nodes::{OWN_NODE, among_all};
        let (edge, shared) = (ClusterName::hosted("team", "edge").unwrap(), ClusterName::hosted("team", "shared").unwrap());
        let own = among_all(&edge, &node("m1", json!({})));
        let mut snapshot = snapshot(vec![own, node("n1", json!({"metadata": {"labels": {OWN_NODE: "edge.team"}}}))], &[]);
        let selecting = json!({"nodeSelector": {OWN_NODE: edge.as_str()}});
        assert_eq!(outcome(&pod_in(&edge, "a", selecting.clone()), &snapshot), "edge.team/m1");
        assert_eq!(outcome(&pod("a", json!({})), &snapshot), "n1");
        assert_eq!(outcome(&pod("a", selecting.clone()), &snapshot), "n1", "what the host's label says is the host's");
        assert_eq!(outcome(&pod_in(&shared, "a", json!({})), &snapshot), "n1");
        let pinned = json!({"nodeSelector": {OWN_NODE: edge.as_str()}, "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
            {"nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["m1"]}]}]}}}});
        assert_eq!(outcome(&pod_in(&edge, "a", pinned), &snapshot), "edge.team/m1", "as a DaemonSet's");
        snapshot.remove_node("edge.team/m1");
        assert_eq!(outcome(&pod_in(&edge, "a", selecting), &snapshot), "no nodes available to schedule pods");
        assert!(!snapshot.has_own_nodes());
    }

    #[test]
    fn large_clusters_are_sampled() {
        assert_eq!((enough(99, 0), enough(100, 0), enough(1000, 0), enough(5000, 0), enough(10_000, 0)), (99, 100, 420, 500, 500));
        assert_eq!((enough(5000, 50), enough(5000, 100)), (2500, 5000));
    }

    #[test]
    fn ties_are_random_and_searches_go_round() {
        let snapshot = snapshot((0..300).map(|n| node(&format!("n{n}"), json!({}))).collect(), &[]);
        let info = pod("a", json!({}));
        let mut asked = 0;
        let placement = schedule(&info, &Needs::default(), &snapshot, 250, 0, &mut |n| {
            asked = n;
            n - 1
        });
        let expected = enough(300, 0);
        assert_eq!((asked, placement), (expected, Ok(Placement { node: (250 + expected - 1) % 300, next_start: (250 + expected) % 300 })));
    }

    #[test]
    fn a_nominated_pod_keeps_its_place_from_the_less_important() {
        let mut world = snapshot(vec![node("n1", json!({}))], &[]);
        let important = pod("important", json!({"priority": 10, "containers": [{"name": "c", "resources": {"requests": {"cpu": "3"}}}]}));
        world.nominate(important.clone(), "n1");
        let two = json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "2"}}}]});
        assert!(crate::testing::attempt(&pod("a", two), &world).is_err());
        assert!(crate::testing::attempt(&important, &world).is_ok());
        world.unnominate(&important.key);
        assert!(!world.has_nominated());
    }

    #[test]
    fn what_a_virtual_cluster_made_room_for_holds_nothing_from_others() {
        let cluster = |name: &str| api_meta::ClusterName::hosted("team", name).unwrap();
        let (three, two) = (crate::testing::requests("3", "1Gi"), crate::testing::requests("2", "1Gi"));
        let mut important = three;
        important["priority"] = json!(1_000_000_000);
        for (nominated, asking, placed) in [("a", "a", false), ("a", "b", true), ("a", "root", true), ("root", "a", false)] {
            let of = |name: &str| if name == "root" { api_meta::ClusterName::root() } else { cluster(name) };
            let mut world = snapshot(vec![node("n1", json!({}))], &[]);
            world.nominate(crate::testing::pod_in(&of(nominated), "important", important.clone()), "n1");
            let found = crate::testing::attempt(&crate::testing::pod_in(&of(asking), "x", two.clone()), &world);
            assert_eq!(found.is_ok(), placed, "{asking} beside {nominated}");
        }
    }
}
