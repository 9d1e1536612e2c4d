//! A prober: one probe of one running container, checked again and again until its thresholds decide.
use super::action::{ActionTarget, Verdict};
use crate::pod::probe_results::ProbeKind;
use k8s_openapi::api::core::v1::Probe;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;

/// What is probed.
#[derive(Clone)]
pub struct ProbeTarget {
    pub action: ActionTarget,
    pub kind: ProbeKind,
    pub probe: Probe,
    /// How long the container runs already.
    pub running_for: Duration,
    /// The result so far: a container adopted from an earlier agent keeps its readiness until it fails.
    pub known: Option<bool>,
}

/// What a prober tells its pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeReport {
    pub container_id: String,
    pub container: String,
    pub kind: ProbeKind,
    /// The result past the threshold, if it changed.
    pub result: Option<bool>,
    /// The text of an event: each failure has one.
    pub failure: Option<String>,
}

/// Probes until the task is aborted, or until the result can't change any more: a started container
/// has started, one that failed its liveness is ended.
pub async fn run_probe(target: ProbeTarget, reports: UnboundedSender<ProbeReport>) {
    let probe = &target.probe;
    let seconds = |value: Option<i32>, default: u64| value.and_then(|v| u64::try_from(v).ok()).map_or(default, |v| v.max(1));
    let period = Duration::from_secs(seconds(probe.period_seconds, 10));
    let delay = Duration::from_secs(u64::try_from(probe.initial_delay_seconds.unwrap_or(0)).unwrap_or(0));
    tokio::time::sleep(delay.saturating_sub(target.running_for)).await;
    let mut thresholds = Thresholds::new(seconds(probe.success_threshold, 1), seconds(probe.failure_threshold, 3), target.known);
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let verdict = target.action.check(probe).await;
        let result = thresholds.count(&verdict);
        let failure = match &verdict {
            Verdict::Success => None,
            Verdict::Failure(text) => Some(format!("{} probe failed: {text}", target.kind.title())),
            Verdict::Unknown(text) => Some(format!("{} probe errored and resulted in unknown state: {text}", target.kind.title())),
        };
        if result.is_some() || failure.is_some() {
            let (container_id, container) = (target.action.container_id.clone(), target.action.container.name.clone());
            if reports.send(ProbeReport { container_id, container, kind: target.kind, result, failure }).is_err() {
                return;
            }
        }
        match (target.kind, result) {
            (ProbeKind::Startup, Some(_)) | (ProbeKind::Liveness, Some(false)) => return,
            _ => {}
        }
    }
}

/// Counts results until they decide.
#[derive(Clone, Debug)]
struct Thresholds {
    success: u64,
    failure: u64,
    decided: Option<bool>,
    last: Option<bool>,
    run: u64,
}

impl Thresholds {
    fn new(success: u64, failure: u64, decided: Option<bool>) -> Self {
        Self { success, failure, decided, last: None, run: 0 }
    }

    /// The new decision, if this result changed it.
    fn count(&mut self, verdict: &Verdict) -> Option<bool> {
        let result = match verdict {
            Verdict::Success => true,
            Verdict::Failure(_) => false,
            Verdict::Unknown(_) => return None,
        };
        self.run = if self.last == Some(result) { self.run + 1 } else { 1 };
        self.last = Some(result);
        if self.run < if result { self.success } else { self.failure } || self.decided == Some(result) {
            return None;
        }
        self.decided = Some(result);
        Some(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_decide_on_runs_of_results() {
        let (ok, bad) = (Verdict::Success, Verdict::Failure(String::new()));
        let mut thresholds = Thresholds::new(2, 3, None);
        let results: Vec<_> =
            [&ok, &ok, &ok, &bad, &bad, &ok, &bad, &bad, &bad, &Verdict::Unknown(String::new()), &bad].iter().map(|v| thresholds.count(v)).collect();
        assert_eq!(results, [None, Some(true), None, None, None, None, None, None, Some(false), None, None]);
    }
}
