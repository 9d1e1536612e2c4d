//! What to do for a Cluster, from what it says and what was done.
use super::provision::Served;
use crate::effective::{Bound, Effective, effective, level};
use crate::kinds::{Cluster, KubeconfigSecret, RENEW_AFTER};
use crate::names::CLUSTER_FINALIZER;
use crate::status::{self, PROVISIONED, PROVISIONING, TERMINATING, VALIDATION_FAILED};
use controller_kit::{Plan, Preconditions, until};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

pub const PROVISIONED_MESSAGE: &str = "Cluster successfully provisioned";
const TERMINATING_MESSAGE: &str = "Cluster is being terminated";

pub struct World {
    pub cluster: Arc<Cluster>,
    pub kubeconfig: Option<Arc<KubeconfigSecret>>,
    pub bound: Bound,
    pub now: Timestamp,
}

#[derive(Debug)]
pub enum Action {
    Finalizers {
        finalizers: Vec<String>,
        preconditions: Preconditions,
    },
    /// Sets these fields of the status.
    Status {
        cluster: Arc<Cluster>,
        status: Value,
    },
    /// Has the cluster served, and tells of it.
    Provision {
        cluster: Arc<Cluster>,
        effective: Box<Effective>,
    },
    /// Takes away the cluster and what was made for it here.
    Remove,
}

pub fn reconcile(world: &World) -> Plan<Action> {
    let cluster = &*world.cluster;
    let finalizers = cluster.metadata.finalizers.clone().unwrap_or_default();
    let held = finalizers.iter().any(|name| name == CLUSTER_FINALIZER);
    let mut plan = Plan::nothing();
    if cluster.metadata.deletion_timestamp.is_some() {
        if held {
            tell(&mut plan, world, "Terminating", TERMINATING, TERMINATING_MESSAGE);
            plan.push(Action::Remove);
            let left = finalizers.into_iter().filter(|name| name != CLUSTER_FINALIZER).collect();
            // The status may just have been written, so only the object must be the same.
            plan.push(Action::Finalizers { finalizers: left, preconditions: Preconditions::uid_of(&cluster.metadata) });
        }
        return plan;
    }
    let effective = match effective(cluster, &world.bound) {
        Ok(effective) => effective,
        Err(why) => {
            tell(&mut plan, world, "Pending", VALIDATION_FAILED, &why);
            return plan;
        }
    };
    if !held {
        let finalizers = finalizers.into_iter().chain([CLUSTER_FINALIZER.to_owned()]).collect();
        plan.push(Action::Finalizers { finalizers, preconditions: Preconditions::exactly(&cluster.metadata) });
    }
    let renew_in = world.kubeconfig.as_ref().and_then(|secret| renew_in(secret, world.now));
    if renew_in.is_some() && is_served(cluster, &effective) {
        plan.again_after = renew_in;
        return plan;
    }
    // Addons may take their time; all else is there before anyone could read of it.
    if !cluster.spec.addons.is_empty() && status::find_ready(&cluster.status.conditions).is_none() {
        tell(&mut plan, world, "Provisioning", PROVISIONING, "Cluster is being provisioned");
    }
    plan.push(Action::Provision { cluster: world.cluster.clone(), effective: Box::new(effective) });
    plan
}

/// How long its certificate need not be renewed; `None` when it should be now.
fn renew_in(secret: &KubeconfigSecret, now: Timestamp) -> Option<Duration> {
    let at: Timestamp = secret.metadata.annotations.as_ref()?.get(RENEW_AFTER)?.parse().ok()?;
    until(at, Duration::ZERO, now)
}

/// Whether the status says that exactly this is served.
fn is_served(cluster: &Cluster, effective: &Effective) -> bool {
    let status = &cluster.status;
    status::says(&status.conditions, true, PROVISIONED, PROVISIONED_MESSAGE, cluster.metadata.generation)
        && status.policy.as_deref() == effective.policy.as_ref()
        && status.pod_security == level(effective.settings.pod_security)
        && status.paused == effective.settings.paused
        && status.restored_from == wish(effective)
}

/// What is said of the snapshot to restore, or nothing.
fn wish(effective: &Effective) -> &str {
    effective.settings.restore.as_ref().map_or("", |restore| &restore.request)
}

fn tell(plan: &mut Plan<Action>, world: &World, phase: &str, reason: &str, message: &str) {
    let cluster = &world.cluster;
    if cluster.status.phase == phase && status::says(&cluster.status.conditions, false, reason, message, cluster.metadata.generation) {
        return;
    }
    let status = not_ready(cluster, phase, reason, message, world.now);
    plan.push(Action::Status { cluster: cluster.clone(), status });
}

/// The status of a Cluster that is not served, or not as it says.
pub fn not_ready(cluster: &Cluster, phase: &str, reason: &str, message: &str, now: Timestamp) -> Value {
    let condition = status::ready(&cluster.status.conditions, false, reason, message, cluster.metadata.generation, now);
    json!({"phase": phase, "conditions": [condition]})
}

/// The status of a Cluster that is served.
pub fn provisioned(cluster: &Cluster, effective: &Effective, served: Served, now: Timestamp) -> Value {
    let condition = status::ready(&cluster.status.conditions, true, PROVISIONED, PROVISIONED_MESSAGE, cluster.metadata.generation, now);
    json!({
        "phase": if effective.settings.paused { "Paused" } else { "Ready" },
        "conditions": [condition],
        "paused": effective.settings.paused.then_some(true),
        "restoredFrom": effective.settings.restore.as_ref().map(|restore| &restore.request),
        "policyName": effective.policy.as_ref().map(|policy| &policy.name),
        "policy": effective.policy,
        "podSecurity": level(effective.settings.pod_security),
        "hostVersion": served.version,
        "clusterCIDR": served.cluster_cidr,
        "serviceCIDR": served.service_cidr,
        "clusterDNS": served.cluster_dns,
        "tlsSANs": std::iter::once(served.host_name).chain(served.tls_names).collect::<Vec<_>>(),
        "address": served.address,
    })
}
