//! Topology: which zone each endpoint is for, where a Service asks for traffic to stay in its zone (`topology-mode: Auto`).
//!
//! Source: KEP-2433, upstream's topologycache. What it remembers of hints given before is read from the slices instead, so
//! that a start forgets nothing.
use api_meta::Quantity;
use k8s_openapi::api::core::v1::{Node, Service};
use std::collections::BTreeMap;
use std::sync::Arc;

const MODE: &str = "service.kubernetes.io/topology-mode";
const FORMER_MODE: &str = "service.kubernetes.io/topology-aware-hints";
pub const ZONE: &str = "topology.kubernetes.io/zone";
const EXCLUDED: [&str; 2] = ["node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"];
/// No zone's endpoints get more than so much more than their share.
const OVERLOAD: f64 = 0.2;

/// Why no endpoint is for a zone.
pub const NO_ZONE: &str = "One or more endpoints do not have a zone specified";
pub const NO_NODE_INFORMATION: &str = "Insufficient Node information: allocatable CPU or zone not specified on one or more nodes";
const FEW_ENDPOINTS: &str = "Insufficient number of endpoints";
const OVERLOADED: &str = "Unable to allocate minimum required endpoints to each zone without exceeding overload threshold";

/// What part of the processors each zone has.
pub type Shares = BTreeMap<String, f64>;

fn mode(service: &Service) -> Option<&String> {
    let annotations = service.metadata.annotations.as_ref();
    annotations.and_then(|all| all.get(FORMER_MODE).or_else(|| all.get(MODE)))
}

pub fn is_auto(service: &Service) -> bool {
    mode(service).is_some_and(|mode| mode == "Auto" || mode == "auto")
}

/// Whether the Service says anything about it.
pub fn is_told(service: &Service) -> bool {
    mode(service).is_some()
}

/// All of a node that shares go by; `None` if it does not count.
pub fn capacity(node: &Node) -> Option<(Option<&str>, i64)> {
    let labels = node.metadata.labels.as_ref();
    let excluded = labels.is_some_and(|labels| EXCLUDED.iter().any(|name| labels.contains_key(*name)));
    let ready = node.status.iter().flat_map(|status| status.conditions.iter().flatten()).find(|condition| condition.type_ == "Ready");
    if excluded || ready.is_none_or(|ready| ready.status != "True") {
        return None;
    }
    let cpu = node.status.as_ref().and_then(|status| status.allocatable.as_ref()?.get("cpu"));
    let cpu = cpu.and_then(|cpu| Quantity::parse(&cpu.0).ok()).map_or(0, |cpu| cpu.millis());
    let zone = labels.and_then(|labels| labels.get(ZONE)).map(String::as_str).filter(|zone| !zone.is_empty());
    Some((zone, cpu))
}

/// `None` if too little is known of some node, or all are in one zone.
pub fn shares(nodes: &[Arc<Node>]) -> Option<Shares> {
    let mut by_zone: BTreeMap<String, i64> = BTreeMap::new();
    for (zone, cpu) in nodes.iter().filter_map(|node| capacity(node)) {
        *by_zone.entry(zone.filter(|_| cpu > 0)?.to_owned()).or_default() += cpu;
    }
    let total: i64 = by_zone.values().sum();
    #[allow(clippy::cast_precision_loss, reason = "shares need no more than a float holds")]
    let share = |cpu: i64| cpu as f64 / total as f64;
    (by_zone.len() >= 2).then(|| by_zone.into_iter().map(|(zone, cpu)| (zone, share(cpu))).collect())
}

/// A ready endpoint: the zone it is in, and the one it was for.
pub struct Placed {
    pub zone: Option<String>,
    pub hint: Option<String>,
}

struct Allocation {
    minimum: usize,
    maximum: usize,
    desired: f64,
}

#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "numbers of endpoints are small and positive")]
fn allocations(shares: &Shares, endpoints: usize) -> Result<BTreeMap<&str, Allocation>, String> {
    let counted = |why: &str| format!("{why} ({endpoints} endpoints, {} zones)", shares.len());
    if shares.len() > endpoints {
        return Err(counted(FEW_ENDPOINTS));
    }
    let mut all: BTreeMap<&str, Allocation> = BTreeMap::new();
    for (zone, share) in shares {
        let desired = share * endpoints as f64;
        let minimum = (desired / (1.0 + OVERLOAD)).ceil() as usize;
        all.insert(zone, Allocation { minimum, maximum: minimum, desired: desired.max(minimum as f64) });
    }
    let minimum: usize = all.values().map(|allocation| allocation.minimum).sum();
    let spare = endpoints.checked_sub(minimum).ok_or_else(|| counted(OVERLOADED))?;
    all.values_mut().for_each(|allocation| allocation.maximum += spare);
    Ok(all)
}

/// The zone each endpoint is for, or why there are none.
///
/// # Errors
/// Upstream's message.
pub fn hints(shares: Option<&Shares>, endpoints: &[Placed]) -> Result<Vec<String>, String> {
    let shares = shares.ok_or(NO_NODE_INFORMATION)?;
    let allocations = allocations(shares, endpoints.len())?;
    let own: Vec<&str> = endpoints.iter().map(|endpoint| endpoint.zone.as_deref()).collect::<Option<_>>().ok_or(NO_ZONE)?;
    // What was decided before stays while no zone has too few endpoints, or too many.
    let before: Vec<&str> = endpoints.iter().zip(&own).map(|(endpoint, own)| endpoint.hint.as_deref().unwrap_or(own)).collect();
    let given = count(&before);
    let is_right = |(zone, allocation): (&&str, &Allocation)| {
        let given = given.get(zone).copied().unwrap_or_default();
        given >= allocation.minimum && given <= allocation.maximum
    };
    if before.iter().all(|zone| allocations.contains_key(zone)) && allocations.iter().all(is_right) {
        return Ok(before.into_iter().map(str::to_owned).collect());
    }
    Ok(redistributed(&allocations, own).into_iter().map(str::to_owned).collect())
}

fn count<'a>(zones: &[&'a str]) -> BTreeMap<&'a str, usize> {
    let mut counts = BTreeMap::new();
    zones.iter().for_each(|zone| *counts.entry(*zone).or_default() += 1);
    counts
}

/// Each endpoint for its own zone, but for those that zones with too many give to zones with too few.
#[allow(clippy::cast_precision_loss, reason = "numbers of endpoints are small")]
fn redistributed<'a>(allocations: &BTreeMap<&'a str, Allocation>, own: Vec<&'a str>) -> Vec<&'a str> {
    let counts = count(&own);
    let (mut giving, mut receiving): (BTreeMap<&str, f64>, BTreeMap<&str, f64>) = Default::default();
    for (zone, allocation) in allocations {
        let over = counts.get(zone).copied().unwrap_or_default() as f64 - allocation.desired;
        if over > 0.0 {
            giving.insert(*zone, over);
        } else if over < 0.0 {
            receiving.insert(*zone, -over);
        }
    }
    let mut hints = own.clone();
    // Zones without nodes of their own have no share: whoever lacks most gets what is there.
    for (at, zone) in own.iter().enumerate().filter(|(_, zone)| !allocations.contains_key(**zone)) {
        let Some((to, _)) = most(&receiving).or_else(|| allocations.keys().next().map(|zone| (*zone, 0.0))) else { break };
        debug_assert_ne!(*zone, to, "it has no share");
        hints[at] = to;
        if let Some(left) = receiving.get_mut(to) {
            *left -= 1.0;
        }
    }
    while let (Some((from, give)), Some((to, take))) = (most(&giving), most(&receiving)) {
        if (give < 1.0 && take < 1.0) || give < 0.5 || take < 0.5 {
            break;
        }
        let Some(at) = (0..hints.len()).find(|at| hints[*at] == from && own[*at] == from) else { break };
        hints[at] = to;
        giving.insert(from, give - 1.0);
        receiving.insert(to, take - 1.0);
    }
    hints
}

/// The zone with the greatest number above nothing; of equal ones the first.
fn most<'a>(zones: &BTreeMap<&'a str, f64>) -> Option<(&'a str, f64)> {
    let positive = zones.iter().filter(|(_, number)| **number > 0.0);
    positive.fold(None, |best: Option<(&'a str, f64)>, (zone, number)| match best {
        Some((_, most)) if most >= *number => best,
        _ => Some((*zone, *number)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn even(zones: &[(&str, f64)]) -> Shares {
        zones.iter().map(|(zone, share)| ((*zone).to_owned(), *share)).collect()
    }

    /// Endpoints by zone, `a>b` for one in a that was for b.
    fn placed(text: &str) -> Vec<Placed> {
        let one = |text: &str| match text.split_once('>') {
            Some((zone, hint)) => Placed { zone: Some(zone.into()), hint: Some(hint.into()) },
            None => Placed { zone: Some(text.to_owned()).filter(|zone| zone != "?"), hint: None },
        };
        text.split_whitespace().map(one).collect()
    }

    fn given(shares: &Shares, endpoints: &str) -> String {
        hints(Some(shares), &placed(endpoints)).unwrap().join(" ")
    }

    #[test]
    fn zones_give_what_they_have_too_much_of() {
        let halves = even(&[("a", 0.5), ("b", 0.5)]);
        assert_eq!(given(&halves, "a b"), "a b");
        assert_eq!(given(&halves, "a a a b"), "b a a b");
        assert_eq!(given(&halves, "a a a a b b b"), "a a a a b b b", "half an endpoint is not given");
        assert_eq!(given(&even(&[("a", 0.25), ("b", 0.75)]), "a a b b"), "b a b b");
        assert_eq!(given(&halves, "a c b c"), "a a b b", "a zone without nodes");
    }

    #[test]
    fn what_was_decided_stays_while_it_is_good_enough() {
        let halves = even(&[("a", 0.5), ("b", 0.5)]);
        // Of seven, each zone needs three.
        assert_eq!(given(&halves, "a>a a>a a>b b>b b>b b>b b>b"), "a a a b b b b");
        assert_eq!(given(&halves, "a>b a>a a>a b>b b>a b>b b"), "b a a b a b b");
        // A zone that is gone is nobody's.
        assert_eq!(given(&halves, "a>z b>b"), "a b");
    }

    #[test]
    fn too_little_is_told() {
        let halves = even(&[("a", 0.5), ("b", 0.5)]);
        let why = |shares: Option<&Shares>, endpoints: &str| hints(shares, &placed(endpoints)).unwrap_err();
        assert_eq!(why(None, "a b"), NO_NODE_INFORMATION);
        assert_eq!(why(Some(&halves), "a"), "Insufficient number of endpoints (1 endpoints, 2 zones)");
        assert_eq!(why(Some(&halves), "a ? b b"), NO_ZONE);
        let uneven = even(&[("a", 0.34), ("b", 0.33), ("c", 0.33)]);
        assert!(hints(Some(&uneven), &placed("a b c")).is_ok());
        let small = even(&[("a", 0.8), ("b", 0.1), ("c", 0.1)]);
        let overloaded = "Unable to allocate minimum required endpoints to each zone without exceeding overload threshold (3 endpoints, 3 zones)";
        assert_eq!(why(Some(&small), "a b c"), overloaded);
        assert!(why(Some(&halves), "a a b").starts_with(OVERLOADED), "each needs two");
    }

    #[test]
    fn nodes_count_by_zone_and_processors() {
        let node = |zone: Option<&str>, cpu: &str, ready: &str, label: &str| -> Arc<Node> {
            let mut labels = json!({label: ""});
            if let Some(zone) = zone {
                labels[ZONE] = Value::from(zone);
            }
            let status = json!({"allocatable": {"cpu": cpu}, "conditions": [{"type": "Ready", "status": ready}]});
            Arc::new(serde_json::from_value(json!({"metadata": {"name": "n", "labels": labels}, "status": status})).unwrap())
        };
        let (a, b) = (node(Some("a"), "1", "True", "x"), node(Some("b"), "3000m", "True", "x"));
        assert_eq!(shares(&[a.clone(), b.clone()]), Some(even(&[("a", 0.25), ("b", 0.75)])));
        assert_eq!(shares(&[a.clone(), a.clone()]), None);
        assert_eq!(shares(&[a.clone(), b.clone(), node(None, "1", "True", "x")]), None);
        let ignored = [node(None, "1", "False", "x"), node(None, "1", "True", EXCLUDED[0])];
        assert!(shares(&[vec![a, b], ignored.to_vec()].concat()).is_some());
    }
}
