//! Tally: a job's pods counted, each exactly once, however often the counting is interrupted.
use super::failure_policy::{Verdict, judge};
use super::indexes;
use crate::pods;
use k8s_openapi::api::batch::v1::{Job, JobStatus, UncountedTerminatedPods};
use k8s_openapi::api::core::v1::Pod;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

pub const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
pub const INDEX: &str = "batch.kubernetes.io/job-completion-index";
pub const FAILURE_COUNT: &str = "batch.kubernetes.io/job-index-failure-count";

/// A finished pod keeps its finalizer until its uid is written into `status.uncountedTerminatedPods` (or its
/// index into `completedIndexes`); the uid becomes a count once the finalizer is gone. So no crash between the
/// two loses a pod or counts one twice.
#[derive(Default)]
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
    /// Uids of finished pods that still hold their finalizer.
    pub uncounted_succeeded: Vec<String>,
    pub uncounted_failed: Vec<String>,
    /// Finished pods that are written down once that status is: their finalizers can go.
    pub settled: Vec<Arc<Pod>>,
    /// The latest failed pod of an index that has no successor yet: it stays, uncounted, because it alone
    /// knows how often the index failed.
    delayed: Vec<(Arc<Pod>, Verdict)>,
}

impl Tally {
    /// No successors will come any more.
    pub fn settle_delayed(&mut self) {
        for (pod, verdict) in std::mem::take(&mut self.delayed) {
            self.settle_failed(&pod, &verdict);
        }
    }

    /// Lets go of all pods that hold on yet, uncounted: the job has succeeded without them.
    pub fn settle_rest(&mut self, owned: &[Arc<Pod>]) {
        let rest: Vec<Arc<Pod>> = owned.iter().filter(|pod| has_finalizer(pod) && !self.settled.contains(pod)).cloned().collect();
        self.settled.extend(rest);
    }

    pub fn write_uncounted(&self, status: &mut JobStatus) {
        let some = |uids: &[String]| Some(uids.to_vec()).filter(|uids| !uids.is_empty());
        status.uncounted_terminated_pods = Some(UncountedTerminatedPods { succeeded: some(&self.uncounted_succeeded), failed: some(&self.uncounted_failed) });
    }

    fn settle_failed(&mut self, pod: &Arc<Pod>, verdict: &Verdict) {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        if *verdict != Verdict::Ignore && !self.uncounted_failed.contains(&uid) {
            self.uncounted_failed.push(uid);
        }
        self.settled.push(pod.clone());
    }
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
    let held: HashSet<&str> = owned.iter().filter(|pod| has_finalizer(pod)).filter_map(|pod| pod.metadata.uid.as_deref()).collect();
    // Those written down whose finalizer is gone become counts.
    let flush = |uids: Option<Vec<String>>, count: &mut Option<i32>| -> Vec<String> {
        let (left, done): (Vec<String>, Vec<String>) = uids.unwrap_or_default().into_iter().partition(|uid| held.contains(uid.as_str()));
        *count = Some(count.unwrap_or_default() + number(done.len())).filter(|n| *n > 0);
        left
    };
    let mut tally = Tally {
        active: owned.iter().filter(|pod| pods::is_active(pod)).cloned().collect(),
        terminating: owned.iter().filter(|pod| pods::is_terminating(pod) && !pods::is_finished(pod)).count(),
        uncounted_succeeded: flush(uncounted.succeeded, &mut status.succeeded),
        uncounted_failed: flush(uncounted.failed, &mut status.failed),
        completed_indexes: indexes::parse(status.completed_indexes.as_deref().unwrap_or_default(), completions),
        failed_indexes: indexes::parse(status.failed_indexes.as_deref().unwrap_or_default(), completions),
        ..Tally::default()
    };
    for pod in owned.iter().filter(|pod| pods::phase(pod) == "Succeeded" && has_finalizer(pod)) {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        if indexed {
            // An index of no meaning any more is no success, but nothing to keep the pod for either.
            let index = index_of(pod).filter(|index| *index < completions && !tally.failed_indexes.contains(index));
            tally.completed_indexes.extend(index);
        } else if !tally.uncounted_succeeded.contains(&uid) {
            tally.uncounted_succeeded.push(uid);
        }
        tally.settled.push(pod.clone());
    }
    if !succeeding(&status) {
        tally.take_failed(job, owned);
    }
    let limited = job.spec.as_ref().is_some_and(|spec| spec.backoff_limit_per_index.is_some());
    if indexed {
        status.succeeded = Some(number(tally.completed_indexes.len())).filter(|n| *n > 0);
        status.completed_indexes = Some(indexes::format(&tally.completed_indexes)).filter(|text| !text.is_empty());
        if limited {
            status.failed_indexes = Some(indexes::format(&tally.failed_indexes));
        }
    }
    tally.succeeded = status.succeeded.unwrap_or_default() + number(tally.uncounted_succeeded.len());
    let delayed = tally.delayed.iter().filter(|(_, verdict)| *verdict != Verdict::Ignore).count();
    tally.failed = status.failed.unwrap_or_default() + number(tally.uncounted_failed.len() + delayed);
    tally.status = status;
    tally
}

fn number(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// Whether the job has succeeded: what is ended after that has not failed.
fn succeeding(status: &JobStatus) -> bool {
    status.conditions.iter().flatten().any(|condition| condition.type_ == "SuccessCriteriaMet" && condition.status == "True")
}

impl Tally {
    fn take_failed(&mut self, job: &Job, owned: &[Arc<Pod>]) {
        let limit = job.spec.as_ref().and_then(|spec| spec.backoff_limit_per_index);
        let failed: Vec<(&Arc<Pod>, Verdict)> = owned.iter().filter(|pod| is_failed(job, pod)).map(|pod| (pod, judge(job, pod))).collect();
        for (pod, verdict) in &failed {
            if let (Some(index), Some(limit)) = (index_of(pod), limit) {
                let failures = failures_before(pod) + i32::from(*verdict != Verdict::Ignore);
                let most = self.failures_of.entry(index).or_default();
                *most = failures.max(*most);
                if (*verdict == Verdict::FailIndex || *most > limit) && !self.completed_indexes.contains(&index) {
                    self.failed_indexes.insert(index);
                }
            }
        }
        let succeeded: BTreeSet<i32> = owned.iter().filter(|pod| !is_failed(job, pod)).filter_map(|pod| index_of(pod)).collect();
        for (pod, verdict) in failed.into_iter().filter(|(pod, _)| has_finalizer(pod)) {
            if let Verdict::FailJob(message) = &verdict {
                self.policy_failure.get_or_insert(message.clone());
            }
            let waits = |index: &i32| !succeeded.contains(index) && !self.failed_indexes.contains(index) && !self.completed_indexes.contains(index);
            let latest = |index: &i32| failures_before(pod) + i32::from(verdict != Verdict::Ignore) == self.failures_of[index];
            let taken = |index: &i32| self.delayed.iter().any(|(other, _)| index_of(other) == Some(*index));
            if limit.is_some() && index_of(pod).is_some_and(|index| waits(&index) && latest(&index) && !taken(&index)) {
                self.delayed.push((pod.clone(), verdict));
            } else {
                self.settle_failed(pod, &verdict);
            }
        }
    }
}

fn failures_before(pod: &Pod) -> i32 {
    let annotation = pod.metadata.annotations.as_ref().and_then(|all| all.get(FAILURE_COUNT));
    annotation.and_then(|text| text.parse().ok()).unwrap_or_default()
}
