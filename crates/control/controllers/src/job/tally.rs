//! Tally: a job's pods counted, each exactly once, however often the counting is interrupted.
use super::failure_policy::{Verdict, judge};
use super::indexes;
use crate::pods;
use k8s_openapi::api::batch::v1::{Job, JobStatus, UncountedTerminatedPods};
use k8s_openapi::api::core::v1::Pod;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

pub const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
pub const INDEX: &str = "batch.kubernetes.io/job-completion-index";
pub const FAILURE_COUNT: &str = "batch.kubernetes.io/job-index-failure-count";

/// A finished pod keeps its finalizer until its uid is written into `status.uncountedTerminatedPods` (or its
/// index into `completedIndexes`); the uid becomes a count once the finalizer is gone. So no crash between the
/// two loses a pod or counts one twice.
pub struct Tally {
    pub active: Vec<Arc<Pod>>,
    /// Being deleted, not yet finished.
    pub terminating: usize,
    /// With the uncounted.
    pub succeeded: i32,
    pub failed: i32,
    pub completed_indexes: BTreeSet<i32>,
    pub failed_indexes: BTreeSet<i32>,
    /// How often pods of an index have failed.
    pub failures_of: BTreeMap<i32, i32>,
    /// Why the pod failure policy fails the job.
    pub policy_failure: Option<String>,
    /// The counts and the uncounted as the status should have them.
    pub status: JobStatus,
    /// Finished pods that are written down once that status is: their finalizers can go.
    pub settled: Vec<Arc<Pod>>,
}

pub fn is_indexed(job: &Job) -> bool {
    job.spec.as_ref().and_then(|spec| spec.completion_mode.as_deref()) == Some("Indexed")
}

/// Only pods that really failed are replaced; otherwise those on their way out are too.
pub fn replaces_only_failed(job: &Job) -> bool {
    let spec = job.spec.as_ref();
    spec.is_some_and(|spec| spec.pod_failure_policy.is_some() || spec.pod_replacement_policy.as_deref() == Some("Failed"))
}

pub fn index_of(pod: &Pod) -> Option<i32> {
    pod.metadata.annotations.as_ref()?.get(INDEX)?.parse().ok()
}

pub fn has_finalizer(pod: &Pod) -> bool {
    pod.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER)
}

pub fn is_failed(job: &Job, pod: &Pod) -> bool {
    match pods::phase(pod) {
        "Failed" => true,
        "Succeeded" => false,
        _ => pods::is_terminating(pod) && !replaces_only_failed(job),
    }
}

pub fn tally(job: &Job, owned: &[Arc<Pod>]) -> Tally {
    let mut status = job.status.clone().unwrap_or_default();
    let completions = job.spec.as_ref().and_then(|spec| spec.completions).unwrap_or(i32::MAX);
    let indexed = is_indexed(job);
    let uncounted = status.uncounted_terminated_pods.take().unwrap_or_default();
    let with_finalizer: HashMap<&str, &Arc<Pod>> =
        owned.iter().filter(|pod| has_finalizer(pod)).filter_map(|pod| Some((pod.metadata.uid.as_deref()?, pod))).collect();
    // Those written down whose finalizer is gone become counts.
    let flush = |uids: Option<Vec<String>>, count: &mut Option<i32>| -> Vec<String> {
        let (left, done): (Vec<String>, Vec<String>) = uids.unwrap_or_default().into_iter().partition(|uid| with_finalizer.contains_key(uid.as_str()));
        *count = Some(count.unwrap_or_default() + done.len() as i32);
        left
    };
    let mut succeeded_uids = flush(uncounted.succeeded, &mut status.succeeded);
    let mut failed_uids = flush(uncounted.failed, &mut status.failed);
    let mut completed = indexes::parse(status.completed_indexes.as_deref().unwrap_or_default(), completions);
    let mut failed_indexes = indexes::parse(status.failed_indexes.as_deref().unwrap_or_default(), completions);
    let mut failures_of: BTreeMap<i32, i32> = BTreeMap::new();
    let (mut policy_failure, mut settled) = (None, Vec::new());
    let limit_per_index = job.spec.as_ref().and_then(|spec| spec.backoff_limit_per_index);
    for pod in owned {
        let (finished, uid) = (has_finalizer(pod), pod.metadata.uid.clone().unwrap_or_default());
        if pods::phase(pod) == "Succeeded" && finished {
            if indexed {
                // An index of no meaning any more is no success, but nothing to keep the pod for either.
                completed.extend(index_of(pod).filter(|index| *index < completions && !failed_indexes.contains(index)));
            } else if !succeeded_uids.contains(&uid) {
                succeeded_uids.push(uid);
            }
            settled.push(pod.clone());
        } else if is_failed(job, pod) {
            let verdict = judge(job, pod);
            if let (Some(index), Some(limit)) = (index_of(pod).filter(|_| verdict != Verdict::Ignore), limit_per_index) {
                let before =
                    pod.metadata.annotations.as_ref().and_then(|all| all.get(FAILURE_COUNT)).and_then(|text| text.parse::<i32>().ok()).unwrap_or_default();
                let failures = failures_of.entry(index).or_default();
                *failures = (*failures).max(before + 1);
                if (verdict == Verdict::FailIndex || *failures > limit) && !completed.contains(&index) {
                    failed_indexes.insert(index);
                }
            }
            if !finished {
                continue;
            }
            if let Verdict::FailJob(message) = &verdict {
                policy_failure.get_or_insert(message.clone());
            }
            if verdict != Verdict::Ignore && !failed_uids.contains(&uid) {
                failed_uids.push(uid);
            }
            settled.push(pod.clone());
        }
    }
    if indexed {
        status.succeeded = Some(completed.len() as i32);
        status.completed_indexes = Some(indexes::format(&completed)).filter(|text| !text.is_empty());
        if limit_per_index.is_some() {
            status.failed_indexes = Some(indexes::format(&failed_indexes));
        }
    }
    let succeeded = status.succeeded.unwrap_or_default() + if indexed { 0 } else { succeeded_uids.len() as i32 };
    let failed = status.failed.unwrap_or_default() + failed_uids.len() as i32;
    let some = |uids: Vec<String>| Some(uids).filter(|uids| !uids.is_empty());
    status.uncounted_terminated_pods = Some(UncountedTerminatedPods { succeeded: some(succeeded_uids), failed: some(failed_uids) });
    status.succeeded = status.succeeded.filter(|n| *n > 0);
    status.failed = status.failed.filter(|n| *n > 0);
    let active: Vec<Arc<Pod>> = owned.iter().filter(|pod| pods::is_active(pod)).cloned().collect();
    let terminating = owned.iter().filter(|pod| pods::is_terminating(pod) && !pods::is_finished(pod)).count();
    Tally { active, terminating, succeeded, failed, completed_indexes: completed, failed_indexes, failures_of, policy_failure, status, settled }
}
