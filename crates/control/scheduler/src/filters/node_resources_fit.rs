//! NodeResourcesFit: what the pod requests must be free.
use super::Filter;
use crate::fit_error::Rejection;
use crate::{NodeInfo, Plugin, PodInfo};

pub struct NodeResourcesFit<'a>(&'a PodInfo);

pub fn prepare(pod: &PodInfo) -> NodeResourcesFit<'_> {
    NodeResourcesFit(pod)
}

impl Filter for NodeResourcesFit<'_> {
    fn plugin(&self) -> Plugin {
        Plugin::NodeResourcesFit
    }

    fn check(&self, node: &NodeInfo) -> Result<(), Rejection> {
        let mut rejection = Rejection { reasons: Vec::new(), resolvable: true };
        if node.pods.len() as i64 + 1 > node.allowed_pods {
            rejection.reasons.push("Too many pods".into());
        }
        let (want, have, used) = (&self.0.requests, &node.allocatable, &node.requested);
        let short = |want: i64, have: i64, used: i64| want > 0 && want > have - used;
        for (name, want, have, used) in [
            ("Insufficient cpu", want.cpu, have.cpu, used.cpu),
            ("Insufficient memory", want.memory, have.memory, used.memory),
            ("Insufficient ephemeral-storage", want.ephemeral_storage, have.ephemeral_storage, used.ephemeral_storage),
        ] {
            if short(want, have, used) {
                rejection.reasons.push(name.into());
                rejection.resolvable &= want <= have;
            }
        }
        for (name, want) in &want.others {
            let (have, used) = (have.other(name), used.other(name));
            if short(*want, have, used) {
                rejection.reasons.push(format!("Insufficient {name}").into());
                rejection.resolvable &= *want <= have;
            }
        }
        if rejection.reasons.is_empty() { Ok(()) } else { Err(rejection) }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use serde_json::json;

    #[test]
    fn what_is_short_is_named_and_only_the_impossible_is_beyond_help() {
        let snapshot = snapshot(vec![node("n1", json!({"status": {"allocatable": {"pods": "2", "x/y": "1"}}}))], &[(pod("there", requests("3", "7Gi")), "n1")]);
        let message = |reasons: &str| format!("0/1 nodes are available: {reasons}.");
        assert_eq!(outcome(&pod("a", requests("1", "1Gi")), &snapshot), "n1");
        assert_eq!(outcome(&pod("a", requests("1100m", "2Gi")), &snapshot), message("1 Insufficient cpu, 1 Insufficient memory"));
        assert_eq!(
            outcome(&pod("a", json!({"containers": [{"name": "c", "resources": {"requests": {"x/y": "2"}}}]})), &snapshot),
            message("1 Insufficient x/y")
        );
        assert_eq!(attempt(&pod("a", requests("2", "0")), &snapshot).unwrap_err().resolvable, [0]);
        assert!(attempt(&pod("a", requests("5", "0")), &snapshot).unwrap_err().resolvable.is_empty());
    }

    #[test]
    fn pods_are_counted_even_if_they_request_nothing() {
        let snapshot = snapshot(vec![node("n1", json!({"status": {"allocatable": {"pods": "1"}}}))], &[(pod("there", json!({})), "n1")]);
        assert_eq!(outcome(&pod("a", json!({})), &snapshot), "0/1 nodes are available: 1 Too many pods.");
    }
}
