//! How many replicas a metric asks for: upstream's replica calculator, with its care for pods that tell nothing yet.
use super::facts::{PodUsage, milli};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, Pod};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A pod's CPU while it starts says nothing of its load (`--horizontal-pod-autoscaler-cpu-initialization-period`).
const CPU_INITIALIZATION: SignedDuration = SignedDuration::from_mins(5);
/// A pod that was never ready so long after its start has not been ready at all (`--...-initial-readiness-delay`).
const INITIAL_READINESS: SignedDuration = SignedDuration::from_secs(30);

/// By how much a ratio may miss 1 without anything being done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerances {
    pub up: f64,
    pub down: f64,
}

impl Tolerances {
    pub fn allow(self, ratio: f64) -> bool {
        (1.0 - self.down..=1.0 + self.up).contains(&ratio)
    }
}

pub struct Measured<'a> {
    pub replicas: i32,
    pub pods: &'a [Arc<Pod>],
    pub usage: &'a BTreeMap<String, PodUsage>,
    pub resource: &'a str,
    /// Only this container's; `None`: all of the pod.
    pub container: Option<&'a str>,
    pub tolerances: Tolerances,
    pub now: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Percent of what is requested.
    Utilization(i32),
    /// Thousandths of the unit for each pod.
    AverageValue(i64),
}

/// What a metric asks for, and what it shows now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proposal {
    pub replicas: i32,
    pub utilization: Option<i32>,
    /// Thousandths of the unit.
    pub average: i64,
}

/// # Errors
/// In upstream's words.
pub fn propose(measured: &Measured<'_>, target: Target) -> Result<Proposal, String> {
    let mut metrics = values(measured)?;
    if metrics.is_empty() {
        return Err(format!("unable to get metrics for resource {}: no metrics returned from resource metrics API", measured.resource));
    }
    let groups = group(measured, &metrics);
    metrics.retain(|name, _| !groups.ignored.contains(name) && !groups.unready.contains(name));
    if metrics.is_empty() {
        return Err("did not receive metrics for targeted pods (pods might be unready)".into());
    }
    let requests = match target {
        Target::Utilization(_) => requests(measured)?,
        Target::AverageValue(_) => BTreeMap::new(),
    };
    let ratio_of = |metrics: &BTreeMap<String, i64>| ratio(metrics, &requests, target);
    let (first, utilization, average) = ratio_of(&metrics)?;
    let proposal = |replicas| Proposal { replicas, utilization, average };
    let scale_up_with_unready = !groups.unready.is_empty() && first > 1.0;
    if !scale_up_with_unready && groups.missing.is_empty() {
        return Ok(proposal(if measured.tolerances.allow(first) { measured.replicas } else { ceil(first * groups.ready as f64) }));
    }
    if first < 1.0 {
        // Who tells nothing is taken to be at its target, so that nothing is taken away too soon.
        for name in &groups.missing {
            let full = match target {
                Target::Utilization(percent) => requests.get(name).copied().unwrap_or_default() * i64::from(percent.max(100)) / 100,
                Target::AverageValue(value) => value,
            };
            metrics.insert(name.clone(), full);
        }
    } else if first > 1.0 {
        metrics.extend(groups.missing.iter().map(|name| (name.clone(), 0)));
    }
    if scale_up_with_unready {
        metrics.extend(groups.unready.iter().map(|name| (name.clone(), 0)));
    }
    let (second, ..) = ratio_of(&metrics)?;
    let turned = (first < 1.0 && second > 1.0) || (first > 1.0 && second < 1.0);
    if measured.tolerances.allow(second) || turned {
        return Ok(proposal(measured.replicas));
    }
    let replicas = ceil(second * metrics.len() as f64);
    let astray = (second < 1.0 && replicas > measured.replicas) || (second > 1.0 && replicas < measured.replicas);
    Ok(proposal(if astray { measured.replicas } else { replicas }))
}

fn ceil(value: f64) -> i32 {
    value.ceil() as i32
}

/// Each pod's use of the resource.
fn values(measured: &Measured<'_>) -> Result<BTreeMap<String, i64>, String> {
    let mut values = BTreeMap::new();
    let pods: BTreeSet<&str> = measured.pods.iter().filter_map(|pod| pod.metadata.name.as_deref()).collect();
    for (name, usage) in measured.usage.iter().filter(|(name, _)| pods.contains(name.as_str())) {
        let of = |containers: &mut dyn Iterator<Item = &BTreeMap<String, i64>>| -> Option<i64> {
            containers.map(|usage| usage.get(measured.resource).copied()).collect::<Option<Vec<i64>>>().map(|all| all.iter().sum())
        };
        let value = match measured.container {
            None => of(&mut usage.containers.values()),
            Some(container) => {
                let found = usage.containers.get(container).ok_or_else(|| format!("container {container} not present in metrics for pod {name}"))?;
                of(&mut std::iter::once(found))
            }
        };
        values.extend(value.map(|value| (name.clone(), value)));
    }
    Ok(values)
}

#[derive(Default)]
struct Groups {
    ready: usize,
    unready: BTreeSet<String>,
    missing: BTreeSet<String>,
    ignored: BTreeSet<String>,
}

fn group(measured: &Measured<'_>, metrics: &BTreeMap<String, i64>) -> Groups {
    let mut groups = Groups::default();
    for pod in measured.pods {
        let name = pod.metadata.name.clone().unwrap_or_default();
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
        if pod.metadata.deletion_timestamp.is_some() || phase == "Failed" {
            groups.ignored.insert(name);
        } else if phase == "Pending" {
            groups.unready.insert(name);
        } else if !metrics.contains_key(&name) {
            groups.missing.insert(name);
        } else if measured.resource == "cpu" && is_starting(pod, &measured.usage[&name], measured.now) {
            groups.unready.insert(name);
        } else {
            groups.ready += 1;
        }
    }
    groups
}

/// Whether a pod's CPU may still be that of its start.
fn is_starting(pod: &Pod, usage: &PodUsage, now: Timestamp) -> bool {
    let status = pod.status.as_ref();
    let ready = status.and_then(|status| status.conditions.iter().flatten().find(|condition| condition.type_ == "Ready"));
    let started = status.and_then(|status| status.start_time.as_ref()).map(|time| time.0);
    let (Some(ready), Some(started)) = (ready, started) else { return true };
    let since = ready.last_transition_time.as_ref().map_or(started, |time| time.0);
    let unready = ready.status == "False";
    if started + CPU_INITIALIZATION > now {
        // The time measured over has to lie wholly after it became ready.
        return unready || usage.timestamp < since + SignedDuration::try_from(usage.window).unwrap_or_default();
    }
    unready && started + INITIAL_READINESS > since
}

/// What each pod requests of the resource.
fn requests(measured: &Measured<'_>) -> Result<BTreeMap<String, i64>, String> {
    let mut requests = BTreeMap::new();
    for pod in measured.pods {
        let name = pod.metadata.name.clone().unwrap_or_default();
        let Some(spec) = &pod.spec else { continue };
        let whole = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref()?.get(measured.resource)).and_then(milli);
        if let (None, Some(whole)) = (measured.container, whole) {
            requests.insert(name, whole);
            continue;
        }
        let sidecars = spec.init_containers.iter().flatten().filter(|container| container.restart_policy.as_deref() == Some("Always"));
        let mut sum = 0;
        for container in spec.containers.iter().chain(sidecars).filter(|c| measured.container.is_none_or(|wanted| wanted == c.name)) {
            let missing = || format!("missing request for {} in container {} of Pod {name}", measured.resource, container.name);
            sum += request(container, measured.resource).ok_or_else(missing)?;
        }
        requests.insert(name, sum);
    }
    Ok(requests)
}

fn request(container: &Container, resource: &str) -> Option<i64> {
    container.resources.as_ref()?.requests.as_ref()?.get(resource).and_then(milli)
}

/// The ratio of what is used to what shall be, with what is shown of it: utilization in percent, and the average.
fn ratio(metrics: &BTreeMap<String, i64>, requests: &BTreeMap<String, i64>, target: Target) -> Result<(f64, Option<i32>, i64), String> {
    match target {
        Target::AverageValue(value) => {
            let average = metrics.values().sum::<i64>() / i64::try_from(metrics.len().max(1)).unwrap_or(1);
            Ok((average as f64 / value.max(1) as f64, None, average))
        }
        Target::Utilization(percent) => {
            let both: Vec<(i64, i64)> = metrics.iter().filter_map(|(name, used)| Some((*used, *requests.get(name)?))).collect();
            let (used, requested) = both.iter().fold((0, 0), |(used, requested), (u, r)| (used + u, requested + r));
            if requested == 0 {
                return Err("no metrics returned matched known pods".into());
            }
            let utilization = i32::try_from(used * 100 / requested).unwrap_or(i32::MAX);
            let average = used / i64::try_from(both.len()).unwrap_or(1);
            Ok((f64::from(utilization) / f64::from(percent), Some(utilization), average))
        }
    }
}
