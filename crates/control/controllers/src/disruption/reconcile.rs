//! What a PodDisruptionBudget's status should say.
use super::DELETION_TIMEOUT;
use crate::deployment::scaled;
use crate::{owners, pods};
use controller_kit::{Plan, selector, until, whole_seconds};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, OwnerReference, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// How many pods an owner wants; pods with the same `uid` share them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scale {
    pub uid: String,
    pub replicas: i32,
}

/// What is known of a pod's controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    Scaled(Scale),
    /// It is there but its size is nothing one could ask for; the resource, as `daemonsets.apps`.
    Unscalable(&'static str),
    Unknown,
}

impl Owner {
    pub fn without_scale(owner: &OwnerReference) -> Self {
        match owner.kind.as_str() {
            "DaemonSet" => Self::Unscalable("daemonsets.apps"),
            "Job" => Self::Unscalable("jobs.batch"),
            _ => Self::Unknown,
        }
    }
}

/// All a decision may see.
pub struct World {
    pub budget: Arc<PodDisruptionBudget>,
    /// The pods it selects.
    pub pods: Vec<Arc<Pod>>,
    /// By the uid in pods' controller references.
    pub owners: HashMap<String, Owner>,
    pub now: Timestamp,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    SetStatus(Box<PodDisruptionBudgetStatus>),
    Tell {
        warning: bool,
        reason: &'static str,
        message: String,
    },
    /// The pod was evicted and is there all the same.
    TellNotDeleted(Arc<Pod>),
}

/// The pods there should be and those that must stay healthy.
struct Expected {
    pods: i32,
    healthy: i32,
    unmanaged: bool,
}

pub fn reconcile(world: &World) -> Plan<Action> {
    let mut plan = Plan::nothing();
    let old = world.budget.status.clone().unwrap_or_default();
    let (disrupted, overdue) = disrupted(world, &old);
    let next = disrupted.values().filter_map(|since| until(since.0, DELETION_TIMEOUT, world.now)).min();
    let mut told = Vec::new();
    let tell = |warning, reason, message: String| Action::Tell { warning, reason, message };
    if world.pods.is_empty() {
        told.push(tell(false, "NoPods", "No matching pods found".into()));
    }
    let mut status = match expected(world) {
        Err(message) => {
            told.push(tell(true, "CalculateExpectedPodCountFailed", format!("Failed to calculate the number of expected pods: {message}")));
            // The safe side: nothing may be evicted while nobody knows.
            let mut status = PodDisruptionBudgetStatus { disruptions_allowed: Some(0), ..old.clone() };
            allow(&mut status, world, "SyncFailed", message);
            status
        }
        Ok(expected) => {
            if expected.unmanaged {
                let of = world.budget.spec.as_ref().and_then(|spec| spec.selector.as_ref()).and_then(|of| selector(of).ok());
                let of = of.map(|of| of.to_string()).unwrap_or_default();
                told.push(tell(
                    true,
                    "UnmanagedPods",
                    format!(
                        "Pods selected by this PodDisruptionBudget (selector: {of}) were found to be unmanaged. As a result, the status of the PDB cannot be \
                         calculated correctly, which may result in undefined behavior. To account for these pods please set \".spec.minAvailable\" field of the \
                         PDB to an integer value."
                    ),
                ));
            }
            let healthy = world.pods.iter().filter(|pod| !pods::is_terminating(pod) && !disrupted.contains_key(pods::name(pod)) && pods::is_ready(pod)).count();
            let healthy = i32::try_from(healthy).unwrap_or(i32::MAX);
            // Without expected pods nothing is allowed, so that the first ones are safe from the start.
            let allowed = if expected.pods <= 0 { 0 } else { (healthy - expected.healthy).max(0) };
            let mut status = PodDisruptionBudgetStatus {
                conditions: old.conditions.clone(),
                current_healthy: Some(healthy),
                desired_healthy: Some(expected.healthy),
                expected_pods: Some(expected.pods),
                disruptions_allowed: Some(allowed),
                disrupted_pods: Some(disrupted).filter(|pods| !pods.is_empty()),
                observed_generation: None,
            };
            allow(&mut status, world, if allowed > 0 { "SufficientPods" } else { "InsufficientPods" }, String::new());
            status
        }
    };
    status.observed_generation = world.budget.metadata.generation;
    if Some(&status) != world.budget.status.as_ref() {
        plan.actions.extend(overdue.into_iter().map(Action::TellNotDeleted));
        plan.actions.extend(told);
        plan.push(Action::SetStatus(Box::new(status)));
    }
    if let Some(next) = next {
        plan.look_again(next);
    }
    plan
}

/// Evicted pods that should be gone soon, by name; and those that should be gone by now.
fn disrupted(world: &World, old: &PodDisruptionBudgetStatus) -> (BTreeMap<String, Time>, Vec<Arc<Pod>>) {
    let (mut soon, mut overdue) = (BTreeMap::new(), Vec::new());
    let marked = old.disrupted_pods.clone().unwrap_or_default();
    for pod in world.pods.iter().filter(|pod| !pods::is_terminating(pod)) {
        let Some(since) = marked.get(pods::name(pod)) else { continue };
        if until(since.0, DELETION_TIMEOUT, world.now).is_some() {
            soon.insert(pods::name(pod).to_owned(), since.clone());
        } else {
            overdue.push(pod.clone());
        }
    }
    (soon, overdue)
}

fn expected(world: &World) -> Result<Expected, String> {
    let spec = world.budget.spec.as_ref();
    let count = i32::try_from(world.pods.len()).unwrap_or(i32::MAX);
    if let Some(max_unavailable) = spec.and_then(|spec| spec.max_unavailable.as_ref()) {
        let (pods, unmanaged) = scale(world)?;
        return Ok(Expected { pods, healthy: (pods - scaled(max_unavailable, pods, true)).max(0), unmanaged });
    }
    match spec.and_then(|spec| spec.min_available.as_ref()) {
        Some(IntOrString::Int(number)) => Ok(Expected { pods: count, healthy: *number, unmanaged: false }),
        Some(percent) => {
            let (pods, unmanaged) = scale(world)?;
            Ok(Expected { pods, healthy: scaled(percent, pods, true), unmanaged })
        }
        None => Ok(Expected { pods: 0, healthy: 0, unmanaged: false }),
    }
}

/// The sum of all the scales behind the pods, and whether some pods have no controller.
fn scale(world: &World) -> Result<(i32, bool), String> {
    let (mut scales, mut unmanaged) = (HashMap::new(), false);
    for pod in &world.pods {
        let Some(owner) = owners::controller_of(&pod.metadata) else {
            unmanaged = true;
            continue;
        };
        match world.owners.get(&owner.uid) {
            Some(Owner::Scaled(scale)) => {
                scales.insert(scale.uid.as_str(), scale.replicas);
            }
            Some(Owner::Unscalable(resource)) => return Err(format!("{resource} does not implement the scale subresource")),
            Some(Owner::Unknown) | None => return Err(format!("found no controllers for pod {:?}", pods::name(pod))),
        }
    }
    Ok((scales.values().sum(), unmanaged))
}

/// Sets the condition DisruptionAllowed to fit `disruptions_allowed`.
fn allow(status: &mut PodDisruptionBudgetStatus, world: &World, reason: &str, message: String) {
    let holds = if status.disruptions_allowed.is_some_and(|allowed| allowed > 0) { "True" } else { "False" };
    let conditions = status.conditions.get_or_insert_default();
    let at = conditions.iter().position(|condition| condition.type_ == "DisruptionAllowed");
    let since = at.map(|at| &conditions[at]).filter(|old| old.status == holds).map(|old| old.last_transition_time.clone());
    let condition = Condition {
        type_: "DisruptionAllowed".into(),
        status: holds.into(),
        reason: reason.into(),
        message,
        last_transition_time: since.unwrap_or_else(|| whole_seconds(world.now)),
        observed_generation: world.budget.metadata.generation,
    };
    match at {
        Some(at) => conditions[at] = condition,
        None => conditions.push(condition),
    }
}
