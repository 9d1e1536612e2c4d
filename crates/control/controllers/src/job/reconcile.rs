//! What a Job needs: pods to start, to end or to count, and its status.
use super::tally::{self, Tally, has_finalizer, index_of, is_indexed, replaces_only_failed};
use crate::{owners, pods};
use api_meta::LabelSelector;
use controller_kit::{Plan, selector, until, whole_seconds};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// All a decision may see.
pub struct World {
    pub job: Arc<Job>,
    /// The job's own pods, and the orphans of its namespace.
    pub pods: Vec<Arc<Pod>>,
    pub now: Timestamp,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Adopt(Arc<Pod>),
    Release(Arc<Pod>),
    /// Deletes pods that count as failed.
    FailPods(Vec<Arc<Pod>>),
    /// Deletes pods that are not needed (any more) and count as nothing.
    EndPods(Vec<Arc<Pod>>),
    /// Pods without an index.
    CreatePods(usize),
    /// Pods with these indexes, and how often each failed before.
    CreateIndexed(Vec<(i32, Option<i32>)>),
    SetStatus(Box<JobStatus>),
    /// Lets go of pods that are counted.
    RemoveFinalizers(Vec<Arc<Pod>>),
    /// An event: its reason and message, and whether it is a warning.
    Tell {
        warning: bool,
        reason: String,
        message: String,
    },
}

const BURST: usize = 500;
const FIRST_BACKOFF: Duration = Duration::from_secs(10);
const LAST_BACKOFF: Duration = Duration::from_secs(600);

pub fn condition_of<'a>(status: Option<&'a JobStatus>, kind: &str) -> Option<&'a JobCondition> {
    status?.conditions.iter().flatten().find(|condition| condition.type_ == kind && condition.status == "True")
}

pub fn is_finished(job: &Job) -> bool {
    ["Complete", "Failed"].iter().any(|kind| condition_of(job.status.as_ref(), kind).is_some())
}

pub fn reconcile(world: &World) -> Plan<Action> {
    let job = &world.job;
    let Some(spec) = &job.spec else { return Plan::nothing() };
    // Somebody else's job.
    if spec.managed_by.as_deref().is_some_and(|by| by != "kubernetes.io/job-controller") {
        return Plan::nothing();
    }
    let matcher = spec.selector.as_ref().map_or(Ok(LabelSelector::everything()), selector);
    let Ok(matcher) = matcher else { return Plan::nothing() };
    let mut claims = owners::claim(&job.metadata, &matcher, &world.pods);
    if matcher.is_everything() {
        claims.adopt.clear();
        claims.owned.retain(|pod| owners::is_controlled_by(&pod.metadata, job.metadata.uid.as_deref().unwrap_or_default()));
    }
    let mut plan = Plan::nothing();
    plan.actions.extend(claims.release.iter().cloned().map(Action::Release));
    plan.actions.extend(claims.adopt.iter().cloned().map(Action::Adopt));
    if is_finished(job) || job.metadata.deletion_timestamp.is_some() {
        // Nothing is counted any more: no pod may hang on for it.
        let held: Vec<Arc<Pod>> = claims.owned.into_iter().filter(|pod| has_finalizer(pod)).collect();
        if !held.is_empty() {
            plan.push(Action::RemoveFinalizers(held));
        }
        return plan;
    }
    Sync { world, plan, tally: tally::tally(job, &claims.owned), owned: claims.owned }.run()
}

/// One decision in the making.
struct Sync<'a> {
    world: &'a World,
    plan: Plan<Action>,
    tally: Tally,
    owned: Vec<Arc<Pod>>,
}

impl Sync<'_> {
    fn run(mut self) -> Plan<Action> {
        let job = self.world.job.clone();
        let now = self.world.now;
        let Some(spec) = &job.spec else { return self.plan };
        let suspended = spec.suspend.unwrap_or_default();
        let mut status = std::mem::take(&mut self.tally.status);
        if status.start_time.is_none() && !suspended {
            status.start_time = Some(whole_seconds(now));
        }
        let target = condition_of(Some(&status), "FailureTarget").map(|c| ("Failed", c.clone()));
        let target = target.or_else(|| condition_of(Some(&status), "SuccessCriteriaMet").map(|c| ("Complete", c.clone())));
        let verdict = target.or_else(|| self.verdict(&status));
        let ended;
        let mut telling = Vec::new();
        if let Some((end, reached)) = &verdict {
            let kind = if *end == "Failed" { "FailureTarget" } else { "SuccessCriteriaMet" };
            set(&mut status, JobCondition { type_: kind.into(), ..reached.clone() });
            self.tally.settle_delayed();
            if *end == "Complete" {
                self.tally.settle_rest(&self.owned);
            }
            ended = self.end(Action::FailPods, self.tally.active.clone());
        } else if suspended {
            ended = self.end(Action::EndPods, self.tally.active.clone());
            status.start_time = None;
            if set(&mut status, condition("Suspended", "True", "JobSuspended", "Job suspended", now)) {
                telling.push(tell(false, "Suspended", "Job suspended"));
            }
        } else {
            if condition_of(Some(&status), "Suspended").is_some() {
                set(&mut status, condition("Suspended", "False", "JobResumed", "Job resumed", now));
                status.start_time = Some(whole_seconds(now));
                telling.push(tell(false, "Resumed", "Job resumed"));
            }
            ended = self.drop_superfluous();
        }
        let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
        let active = count(self.tally.active.len() - ended);
        status.active = Some(active).filter(|n| *n > 0);
        status.terminating = Some(count(self.tally.terminating + ended));
        let ready = if ended == self.tally.active.len() { 0 } else { self.tally.active.iter().filter(|pod| pods::is_ready(pod)).count() };
        status.ready = Some(count(ready).min(active));
        self.tally.write_uncounted(&mut status);
        let counted = !self.owned.iter().any(|pod| has_finalizer(pod)) && self.tally.uncounted_succeeded.is_empty() && self.tally.uncounted_failed.is_empty();
        if let Some((end, reached)) = &verdict
            && counted
            && self.tally.active.is_empty()
            && self.tally.terminating == 0
        {
            set(&mut status, JobCondition { type_: (*end).into(), last_transition_time: Some(whole_seconds(now)), ..reached.clone() });
            if *end == "Complete" {
                status.completion_time = Some(whole_seconds(now));
                telling.push(tell(false, "Completed", "Job completed"));
            } else {
                telling.push(tell(true, reached.reason.as_deref().unwrap_or_default(), reached.message.as_deref().unwrap_or_default()));
            }
        }
        // INVARIANT: what is let go is counted before, and what is told is so. Pods are started last, because
        // that may be refused for long (quotas), and ended pods must be counted all the same.
        if job.status.as_ref() != Some(&status) {
            self.plan.push(Action::SetStatus(Box::new(status.clone())));
        }
        if !self.tally.settled.is_empty() {
            let settled = std::mem::take(&mut self.tally.settled);
            self.plan.push(Action::RemoveFinalizers(settled));
        }
        self.plan.actions.extend(telling);
        if verdict.is_none() && !suspended && ended == 0 {
            self.start();
        }
        if let (Some(deadline), Some(start), None) = (spec.active_deadline_seconds, &status.start_time, &verdict)
            && let Some(left) = until(start.0, Duration::from_secs(deadline.unsigned_abs()), now)
        {
            self.plan.look_again(left);
        }
        self.plan
    }

    /// Whether the job is decided: `Failed` or `Complete`, and why.
    fn verdict(&self, status: &JobStatus) -> Option<(&'static str, JobCondition)> {
        let World { job, now, .. } = self.world;
        let spec = job.spec.as_ref()?;
        let tally = &self.tally;
        let fail = |reason: &str, message: &str| Some(("Failed", condition("FailureTarget", "True", reason, message, *now)));
        if let Some(message) = &tally.policy_failure {
            return fail("PodFailurePolicy", message);
        }
        let limit = spec.backoff_limit.unwrap_or(6);
        if tally.failed > limit || self.restarts_exceed(limit) {
            return fail("BackoffLimitExceeded", "Job has reached the specified backoff limit");
        }
        let suspended = spec.suspend.unwrap_or_default();
        if let (Some(deadline), Some(start), false) = (spec.active_deadline_seconds, &status.start_time, suspended)
            && until(start.0, Duration::from_secs(deadline.unsigned_abs()), *now).is_none()
        {
            return fail("DeadlineExceeded", "Job was active longer than specified deadline");
        }
        let completions = spec.completions;
        if spec.backoff_limit_per_index.is_some() {
            let failed = tally.failed_indexes.len();
            if spec.max_failed_indexes.is_some_and(|max| failed > usize::try_from(max).unwrap_or_default()) {
                return fail("MaxFailedIndexesExceeded", "Job has exceeded the specified maximal number of failed indexes");
            }
            if failed > 0 && completions.is_some_and(|n| failed + tally.completed_indexes.len() >= usize::try_from(n).unwrap_or_default()) {
                return fail("FailedIndexes", "Job has failed indexes");
            }
        }
        if let Some(rule) = self.success_rule() {
            return Some(("Complete", condition("SuccessCriteriaMet", "True", "SuccessPolicy", &format!("Matched rules at index {rule}"), *now)));
        }
        let complete = match completions {
            // A work queue: once one pod succeeded and no pod works any more, all is done.
            None => tally.succeeded > 0 && tally.active.is_empty(),
            Some(n) => tally.succeeded >= n && tally.active.is_empty(),
        };
        complete.then(|| ("Complete", condition("SuccessCriteriaMet", "True", "CompletionsReached", "Reached expected number of succeeded pods", *now)))
    }

    /// Pods that restart their containers themselves count restarts instead of failed pods.
    fn restarts_exceed(&self, limit: i32) -> bool {
        let spec = self.world.job.spec.as_ref();
        if spec.and_then(|spec| spec.template.spec.as_ref()).and_then(|spec| spec.restart_policy.as_deref()) != Some("OnFailure") {
            return false;
        }
        let running = self.owned.iter().filter(|pod| matches!(pods::phase(pod), "Running" | "Pending"));
        let statuses = running
            .flat_map(|pod| &pod.status)
            .flat_map(|status| status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten()));
        let restarts: i32 = statuses.map(|status| status.restart_count).sum();
        if limit == 0 { restarts > 0 } else { restarts >= limit }
    }

    fn success_rule(&self) -> Option<usize> {
        let spec = self.world.job.spec.as_ref()?;
        let completions = spec.completions.unwrap_or_default();
        let done = &self.tally.completed_indexes;
        spec.success_policy.as_ref()?.rules.iter().position(|rule| {
            let wanted: Option<BTreeSet<i32>> = rule.succeeded_indexes.as_deref().map(|text| super::indexes::parse(text, completions));
            let matched = wanted.as_ref().map_or(done.len(), |wanted| wanted.intersection(done).count());
            match rule.succeeded_count {
                Some(count) => matched >= usize::try_from(count).unwrap_or_default(),
                None => wanted.is_some_and(|wanted| wanted.is_subset(done)),
            }
        })
    }

    fn wanted(&self) -> usize {
        let Some(spec) = &self.world.job.spec else { return 0 };
        let parallelism = usize::try_from(spec.parallelism.unwrap_or(1)).unwrap_or_default();
        match spec.completions {
            None if self.tally.succeeded > 0 => self.tally.active.len(),
            None => parallelism,
            Some(n) => usize::try_from(n - self.tally.succeeded).unwrap_or_default().min(parallelism),
        }
    }

    /// Ends pods nobody needs; gives how many.
    fn drop_superfluous(&mut self) -> usize {
        let (wanted, active) = (self.wanted(), self.tally.active.len());
        let mut doomed = if is_indexed(&self.world.job) { self.superfluous() } else { Vec::new() };
        let kept: Vec<Arc<Pod>> = self.tally.active.iter().filter(|pod| !doomed.contains(pod)).cloned().collect();
        if kept.len() > wanted {
            let mut ordered = crate::replica_set::deletion_order(kept, &Default::default(), self.world.now);
            ordered.truncate(active.saturating_sub(doomed.len() + wanted));
            doomed.extend(ordered);
        }
        doomed.truncate(BURST);
        self.end(Action::EndPods, doomed)
    }

    /// Starts the pods that are missing.
    fn start(&mut self) {
        let (job, active) = (&self.world.job, self.tally.active.len());
        let occupied = if replaces_only_failed(job) { active + self.tally.terminating } else { active };
        let count = self.wanted().saturating_sub(occupied).min(BURST);
        if count == 0 {
            return;
        }
        if is_indexed(job) {
            self.create_indexed(count);
        } else if let Some(left) = self.backoff_left(|_| true) {
            self.plan.look_again(left);
        } else {
            self.plan.push(Action::CreatePods(count));
        }
    }

    /// Active pods whose index is done, failed, out of range or had twice.
    fn superfluous(&self) -> Vec<Arc<Pod>> {
        let completions = self.world.job.spec.as_ref().and_then(|spec| spec.completions).unwrap_or_default();
        let mut seen = BTreeSet::new();
        let mut useful = |pod: &Arc<Pod>| {
            index_of(pod).is_some_and(|index| {
                (0..completions).contains(&index)
                    && !self.tally.completed_indexes.contains(&index)
                    && !self.tally.failed_indexes.contains(&index)
                    && seen.insert(index)
            })
        };
        self.tally.active.iter().filter(|pod| !useful(pod)).cloned().collect()
    }

    fn create_indexed(&mut self, count: usize) {
        let Some(spec) = &self.world.job.spec else { return };
        let per_index = spec.backoff_limit_per_index.is_some();
        if !per_index && let Some(left) = self.backoff_left(|_| true) {
            self.plan.look_again(left);
            return;
        }
        let only_failed = replaces_only_failed(&self.world.job);
        let taken = self.owned.iter().filter(|pod| pods::is_active(pod) || (only_failed && pods::is_terminating(pod) && !pods::is_finished(pod)));
        let taken: BTreeSet<i32> = taken.filter_map(|pod| index_of(pod)).collect();
        let mut chosen = Vec::new();
        for index in 0..spec.completions.unwrap_or_default() {
            if chosen.len() == count {
                break;
            }
            if taken.contains(&index) || self.tally.completed_indexes.contains(&index) || self.tally.failed_indexes.contains(&index) {
                continue;
            }
            if per_index && let Some(left) = self.backoff_left(|pod| index_of(pod) == Some(index)) {
                self.plan.look_again(left);
                continue;
            }
            chosen.push((index, per_index.then(|| self.tally.failures_of.get(&index).copied().unwrap_or_default())));
        }
        if !chosen.is_empty() {
            self.plan.push(Action::CreateIndexed(chosen));
        }
    }

    /// How long to wait yet: 10 s after the last failure, doubling with every failure since the last success.
    fn backoff_left(&self, of: impl Fn(&Pod) -> bool) -> Option<Duration> {
        let job = &self.world.job;
        let ended = |pod: &Arc<Pod>| finish_time(pod).unwrap_or(Timestamp::MIN);
        let mine = || self.owned.iter().filter(|pod| of(pod));
        let last_success = mine().filter(|pod| pods::phase(pod) == "Succeeded").map(ended).max();
        let failures: Vec<Timestamp> = mine()
            .filter(|pod| tally::is_failed(job, pod) && pods::phase(pod) == "Failed")
            .map(ended)
            .filter(|at| last_success.is_none_or(|success| *at > success))
            .collect();
        let last = failures.iter().max()?;
        let doublings = u32::try_from(failures.len() - 1).unwrap_or(u32::MAX).min(16);
        until(*last, FIRST_BACKOFF.saturating_mul(1 << doublings).min(LAST_BACKOFF), self.world.now)
    }

    fn end(&mut self, how: fn(Vec<Arc<Pod>>) -> Action, pods: Vec<Arc<Pod>>) -> usize {
        let count = pods.len();
        if count > 0 {
            self.plan.push(how(pods));
        }
        count
    }
}

fn tell(warning: bool, reason: &str, message: &str) -> Action {
    Action::Tell { warning, reason: reason.into(), message: message.into() }
}

fn condition(kind: &str, status: &str, reason: &str, message: &str, now: Timestamp) -> JobCondition {
    JobCondition {
        type_: kind.into(),
        status: status.into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_probe_time: Some(whole_seconds(now)),
        last_transition_time: Some(whole_seconds(now)),
    }
}

/// Sets a condition; false if one of the same status is there.
fn set(status: &mut JobStatus, condition: JobCondition) -> bool {
    let conditions = status.conditions.get_or_insert_default();
    match conditions.iter_mut().find(|other| other.type_ == condition.type_) {
        Some(other) if other.status == condition.status => false,
        Some(other) => {
            *other = condition;
            true
        }
        None => {
            conditions.push(condition);
            true
        }
    }
}

/// When the last of its containers ended; else when it ceased to be ready, was to be gone, or was made.
fn finish_time(pod: &Pod) -> Option<Timestamp> {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
    let ends: Option<Vec<Timestamp>> = statuses.iter().map(|status| Some(status.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref()?.0)).collect();
    let unready = || pods::condition(pod, "Ready").filter(|condition| condition.status == "False")?.last_transition_time.as_ref().map(|time| time.0);
    let other = || pod.metadata.deletion_timestamp.as_ref().or(pod.metadata.creation_timestamp.as_ref()).map(|time| time.0);
    ends.and_then(|ends| ends.into_iter().max()).or_else(unready).or_else(other)
}
