//! Pausing: a cluster that can be read, and of which nothing runs or changes until it is resumed.
use super::hosting::{AT_ONCE, ClusterError};
use crate::server::ApiServer;
use crate::stored::stored;
use api_auth::User;
use api_meta::{ClusterName, ClusterSettings, GroupResource, Status, object};
use clock::rfc3339_seconds;
use jiff::Timestamp;
use serde_json::{Value, json};
use store::{Op, Precondition, RangeRequest, Record, Scope, StoreError, Txn};

/// Whose nodes are its own tells of them also while it is paused.
const NODES: &str = "system:nodes";

impl ApiServer {
    /// Whether a change is allowed by somebody who is no part of this server. Whoever only asks is not looked at.
    pub(crate) fn check_paused(&self, cluster: &ClusterName, user: &User, group: &str, resource: &str, name: &str) -> Result<(), Status> {
        let paused = self.tenants.get(cluster).is_some_and(|tenant| tenant.settings.paused);
        if !paused || user.in_group(NODES) {
            return Ok(());
        }
        Err(Status::forbidden(group, resource, name, "the virtual cluster is paused: it can be read, and changed once it is resumed"))
    }

    /// Takes the pods of a paused cluster off their nodes and holds them back from the scheduler. May be done again.
    pub(super) async fn hold_pods(&self, cluster: &ClusterName) -> Result<(), ClusterError> {
        let now = self.clock.now();
        self.each_pod(cluster, |pod| held(pod, now)).await
    }

    /// Lets the scheduler have the pods of a cluster that is not paused any more.
    pub(super) async fn let_pods_go(&self, cluster: &ClusterName) -> Result<(), ClusterError> {
        self.each_pod(cluster, let_go).await
    }

    /// Writes every pod that `changed` gives anew, until there is none left.
    async fn each_pod(&self, cluster: &ClusterName, changed: impl Fn(&Value) -> Option<Value>) -> Result<(), ClusterError> {
        let scope = || Scope::Resource { cluster: cluster.clone(), resource: GroupResource::new("", "pods"), namespace: None };
        loop {
            let found = self.store.range(RangeRequest { scope: scope(), after: None, limit: 0, revision: None }).await?;
            let write = |record: &std::sync::Arc<Record>| {
                let pod = changed(&stored(record).object.to_value())?;
                let precondition = Precondition::AtRevision(record.key.clone(), record.mod_revision);
                Some((precondition, Op::Put { key: record.key.clone(), value: object::encode(pod.as_object()?) }))
            };
            let (preconditions, ops): (Vec<_>, Vec<_>) = found.records.iter().filter_map(write).take(AT_ONCE).unzip();
            if ops.is_empty() {
                return Ok(());
            }
            match self.store.txn(Txn { preconditions, ops }).await {
                // Somebody wrote one of them meanwhile: look again.
                Ok(_) | Err(StoreError::PreconditionFailed { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn gate() -> Value {
    json!({ "name": ClusterSettings::PAUSED_GATE })
}

fn is_gated(pod: &Value) -> bool {
    pod["spec"]["schedulingGates"].as_array().is_some_and(|gates| gates.contains(&gate()))
}

/// Whether a pod has come to its end, or is on the way there.
pub(super) fn is_over(pod: &Value) -> bool {
    matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed")) || pod["metadata"]["deletionTimestamp"].is_string()
}

/// Whether a pod is only told of: it is a node's own, and runs there whatever the API says.
pub(super) fn is_mirror(pod: &Value) -> bool {
    pod["metadata"]["annotations"].get("kubernetes.io/config.mirror").is_some()
}

/// The pod as if it had just been created and not scheduled, held back from the scheduler; `None` if it may stay as it is.
///
/// It is another pod than the one that ran: a node knows pods by their uid, and what ran there is taken down.
fn held(pod: &Value, now: Timestamp) -> Option<Value> {
    let bound = pod["spec"]["nodeName"].as_str().is_some_and(|node| !node.is_empty());
    if is_over(pod) || is_mirror(pod) || (is_gated(pod) && !bound) {
        return None;
    }
    let mut held = pod.clone();
    if bound {
        held["metadata"]["uid"] = uuid::Uuid::new_v4().to_string().into();
        held["metadata"]["creationTimestamp"] = rfc3339_seconds(now).into();
    }
    let spec = held["spec"].as_object_mut()?;
    spec.remove("nodeName");
    spec.remove("ephemeralContainers");
    if !is_gated(pod) {
        match spec.get_mut("schedulingGates").and_then(Value::as_array_mut) {
            Some(gates) => gates.push(gate()),
            None => drop(spec.insert("schedulingGates".into(), json!([gate()]))),
        }
    }
    let condition = json!({
        "type": "PodScheduled", "status": "False", "reason": "SchedulingGated", "message": "The virtual cluster is paused",
        "lastProbeTime": null, "lastTransitionTime": rfc3339_seconds(now),
    });
    let mut status = json!({ "phase": "Pending", "conditions": [condition] });
    if let Some(class) = pod["status"].get("qosClass") {
        status["qosClass"] = class.clone();
    }
    held["status"] = status;
    Some(held)
}

/// The pod without the gate; `None` if it has none.
fn let_go(pod: &Value) -> Option<Value> {
    if !is_gated(pod) {
        return None;
    }
    let mut free = pod.clone();
    let spec = free["spec"].as_object_mut()?;
    let gates = spec.get_mut("schedulingGates").and_then(Value::as_array_mut)?;
    gates.retain(|other| *other != gate());
    if gates.is_empty() {
        spec.remove("schedulingGates");
        if let Some(conditions) = free["status"]["conditions"].as_array_mut() {
            conditions.retain(|condition| condition["reason"] != "SchedulingGated");
        }
    }
    Some(free)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(spec: Value, status: Value) -> Value {
        json!({"metadata": {"name": "p", "uid": "u", "ownerReferences": [{"uid": "o"}]}, "spec": spec, "status": status})
    }

    #[test]
    fn a_running_pod_becomes_another_that_waits_and_is_what_it_was_once_let_go() {
        let running = pod(json!({"containers": [], "nodeName": "n"}), json!({"phase": "Running", "podIP": "10.0.0.1", "qosClass": "Burstable"}));
        let waiting = held(&running, Timestamp::UNIX_EPOCH).unwrap();
        assert!(waiting["metadata"]["uid"] != "u" && waiting["spec"].get("nodeName").is_none() && waiting["status"].get("podIP").is_none(), "{waiting}");
        assert_eq!((&waiting["status"]["phase"], &waiting["status"]["qosClass"]), (&json!("Pending"), &json!("Burstable")));
        assert_eq!(waiting["metadata"]["ownerReferences"], running["metadata"]["ownerReferences"]);
        assert_eq!(held(&waiting, Timestamp::UNIX_EPOCH), None, "doing it again changes nothing");
        let free = let_go(&waiting).unwrap();
        assert_eq!((&free["spec"], &free["status"]["conditions"]), (&json!({"containers": []}), &json!([])));
        assert_eq!(let_go(&free), None);
    }

    #[test]
    fn a_pod_that_waits_is_held_back_and_keeps_gates_of_its_own() {
        let gated = pod(json!({"schedulingGates": [{"name": "own"}]}), json!({"phase": "Pending"}));
        let waiting = held(&gated, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!((&waiting["metadata"]["uid"], waiting["spec"]["schedulingGates"].as_array().unwrap().len()), (&json!("u"), 2));
        assert_eq!(let_go(&waiting).unwrap()["spec"], gated["spec"]);
    }

    #[test]
    fn what_has_ended_or_is_a_nodes_own_stays() {
        for status in [json!({"phase": "Succeeded"}), json!({"phase": "Failed"})] {
            assert_eq!(held(&pod(json!({"nodeName": "n"}), status), Timestamp::UNIX_EPOCH), None);
        }
        for metadata in [json!({"deletionTimestamp": "1970-01-01T00:00:00Z"}), json!({"annotations": {"kubernetes.io/config.mirror": "x"}})] {
            let pod = json!({"metadata": metadata, "spec": {"nodeName": "n"}, "status": {"phase": "Running"}});
            assert_eq!(held(&pod, Timestamp::UNIX_EPOCH), None);
        }
    }
}
