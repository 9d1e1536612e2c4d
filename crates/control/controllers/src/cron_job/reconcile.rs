//! What a CronJob needs: the Job whose time has come, the end of some, and its status.
use super::schedule::{self, Schedule};
use crate::job::{condition_of, is_finished};
use crate::owners;
use controller_kit::{Plan, until, whole_seconds};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{CronJob, CronJobStatus, Job};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::sync::Arc;
use std::time::Duration;

/// All a decision may see.
pub struct World {
    pub cron_job: Arc<CronJob>,
    /// The Jobs it controls.
    pub jobs: Vec<Arc<Job>>,
    pub now: Timestamp,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    CreateJob(Box<Job>),
    DeleteJob(Arc<Job>),
    SetStatus(CronJobStatus),
    Tell { warning: bool, reason: &'static str, message: String },
}

/// A little later than the second itself, as upstream, so that the clock is surely past it.
const NEXT_DELTA: Duration = Duration::from_millis(100);
const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

pub fn reconcile(world: &World) -> Plan<Action> {
    let cron_job = &world.cron_job;
    let (spec, mut plan) = (&cron_job.spec, Plan::nothing());
    let mut status = cron_job.status.clone().unwrap_or_default();
    note_active(world, &mut status, &mut plan);
    note_started(world, &mut status);
    let seen = without_empty(status.clone());
    clean_up(world, &mut plan);
    if cron_job.metadata.deletion_timestamp.is_none() && spec.suspend != Some(true) {
        start(world, &mut status, &mut plan);
    }
    write(&mut plan, cron_job.status.clone().unwrap_or_default(), seen, without_empty(status));
    plan
}

/// What a Job that is there tells is written down before any Job goes, and with it what is known of its time; what a
/// new Job tells once it is made: if that fails, it is tried again.
fn write(plan: &mut Plan<Action>, old: CronJobStatus, seen: CronJobStatus, new: CronJobStatus) {
    let mut written = old;
    let first_gone = plan.actions.iter().position(|action| matches!(action, Action::DeleteJob(_)));
    if let Some(at) = first_gone
        && seen != written
    {
        plan.actions.insert(at, Action::SetStatus(seen.clone()));
        written = seen;
    }
    if new != written {
        let at = plan.actions.iter().rposition(|action| matches!(action, Action::CreateJob(_) | Action::DeleteJob(_))).map_or(0, |at| at + 1);
        plan.actions.insert(at, Action::SetStatus(new));
    }
}

fn without_empty(mut status: CronJobStatus) -> CronJobStatus {
    status.active = status.active.filter(|active| !active.is_empty());
    status
}

/// A Job that was made without its time being written down counts as the start it is.
fn note_started(world: &World, status: &mut CronJobStatus) {
    let scheduled = |job: &Arc<Job>| job.metadata.annotations.as_ref()?.get(SCHEDULED)?.parse::<Timestamp>().ok();
    let Some(latest) = world.jobs.iter().filter_map(scheduled).filter(|time| *time <= world.now).max() else { return };
    if status.last_schedule_time.as_ref().is_none_or(|last| last.0 < latest) {
        status.last_schedule_time = Some(whole_seconds(latest));
    }
}

fn note_active(world: &World, status: &mut CronJobStatus, plan: &mut Plan<Action>) {
    let mut active = status.active.take().unwrap_or_default();
    for job in &world.jobs {
        let listed = active.iter().any(|reference| reference.uid == job.metadata.uid);
        let name = job.metadata.name.as_deref().unwrap_or_default();
        if is_finished(job) {
            let complete = condition_of(job.status.as_ref(), "Complete").is_some();
            if listed {
                active.retain(|reference| reference.uid != job.metadata.uid);
                let condition = if complete { "Complete" } else { "Failed" };
                plan.push(Action::Tell { warning: false, reason: "SawCompletedJob", message: format!("Saw completed job: {name}, condition: {condition}") });
            }
            let ended = job.status.as_ref().and_then(|status| status.completion_time.clone());
            if complete && ended > status.last_successful_time {
                status.last_successful_time = ended;
            }
        } else if !listed {
            active.push(reference(job));
        }
    }
    active.retain(|reference| {
        let exists = world.jobs.iter().any(|job| job.metadata.uid == reference.uid);
        if !exists {
            let message = format!("Active job went missing: {}", reference.name.as_deref().unwrap_or_default());
            plan.push(Action::Tell { warning: false, reason: "MissingJob", message });
        }
        exists
    });
    status.active = Some(active);
}

/// Finished Jobs beyond the limits go, the oldest first.
fn clean_up(world: &World, plan: &mut Plan<Action>) {
    let spec = &world.cron_job.spec;
    for (kind, limit) in [("Complete", spec.successful_jobs_history_limit.unwrap_or(3)), ("Failed", spec.failed_jobs_history_limit.unwrap_or(1))] {
        let mut finished: Vec<&Arc<Job>> =
            world.jobs.iter().filter(|job| job.metadata.deletion_timestamp.is_none() && condition_of(job.status.as_ref(), kind).is_some()).collect();
        finished.sort_by(|a, b| {
            let start = |job: &Job| job.status.as_ref().and_then(|status| status.start_time.clone());
            start(a).cmp(&start(b)).then_with(|| a.metadata.name.cmp(&b.metadata.name))
        });
        let excess = finished.len().saturating_sub(usize::try_from(limit).unwrap_or_default());
        plan.actions.extend(finished.into_iter().take(excess).cloned().map(Action::DeleteJob));
    }
}

fn start(world: &World, status: &mut CronJobStatus, plan: &mut Plan<Action>) {
    let World { cron_job, now, .. } = world;
    let spec = &cron_job.spec;
    let mut complain = |reason, message: String| plan.push(Action::Tell { warning: true, reason, message });
    let zone = match spec.time_zone.as_deref().map(schedule::zone) {
        None => TimeZone::UTC,
        Some(Some(zone)) => zone,
        Some(None) => {
            let message = format!("invalid timeZone: {:?}: unknown time zone {0}", spec.time_zone.as_deref().unwrap_or_default());
            return complain("UnknownTimeZone", message);
        }
    };
    let schedule = match Schedule::parse(&spec.schedule) {
        Ok(schedule) => schedule,
        Err(error) => return complain("UnparseableSchedule", format!("unparseable schedule {:?} : {error}", spec.schedule)),
    };
    let last = last_start(cron_job, status);
    let recent = most_recent(cron_job, last.unwrap_or(*now), &schedule, &zone, *now);
    // The clock's times come from now on; intervals count from the last one.
    let from = if schedule.is_interval() { recent.map(|(at, _)| at).or(last).unwrap_or(*now) } else { *now };
    if let Some(next) = schedule.next(from, &zone) {
        plan.look_again(until(next, NEXT_DELTA, *now).unwrap_or(NEXT_DELTA));
    }
    let Some((scheduled, missed)) = recent else { return };
    if missed > 100 {
        let message = format!("too many missed start times: {missed}. Set or decrease .spec.startingDeadlineSeconds or check clock skew");
        plan.push(Action::Tell { warning: true, reason: "TooManyMissedTimes", message });
    }
    let deadline = spec.starting_deadline_seconds.map(SignedDuration::from_secs);
    if deadline.is_some_and(|deadline| now.duration_since(scheduled) > deadline) {
        let message = format!("Missed scheduled time to start a job: {}", scheduled.strftime("%a, %d %b %Y %H:%M:%S +0000"));
        plan.push(Action::Tell { warning: true, reason: "MissSchedule", message });
        return;
    }
    let name = format!("{}-{}", cron_job.metadata.name.as_deref().unwrap_or_default(), scheduled.as_second() / 60);
    let active = status.active.get_or_insert_default();
    if active.iter().any(|reference| reference.name.as_deref() == Some(&name)) || status.last_schedule_time.as_ref().is_some_and(|last| last.0 == scheduled) {
        return;
    }
    match spec.concurrency_policy.as_deref() {
        Some("Forbid") if !active.is_empty() => {
            let message = "Not starting job because prior execution is running and concurrency policy is Forbid".to_owned();
            plan.push(Action::Tell { warning: false, reason: "JobAlreadyActive", message });
            return;
        }
        Some("Replace") => {
            let doomed = world.jobs.iter().filter(|job| active.iter().any(|reference| reference.uid == job.metadata.uid));
            plan.actions.extend(doomed.cloned().map(Action::DeleteJob));
            active.clear();
        }
        _ => {}
    }
    plan.push(Action::CreateJob(Box::new(new_job(cron_job, name, scheduled, &zone))));
    status.last_schedule_time = Some(whole_seconds(scheduled));
}

/// The time of the last start, or of the beginning.
fn last_start(cron_job: &CronJob, status: &CronJobStatus) -> Option<Timestamp> {
    status.last_schedule_time.as_ref().or(cron_job.metadata.creation_timestamp.as_ref()).map(|time| time.0)
}

/// The last time that has come since the last start, and how many there were.
fn most_recent(cron_job: &CronJob, last: Timestamp, schedule: &Schedule, zone: &TimeZone, now: Timestamp) -> Option<(Timestamp, usize)> {
    let mut from = last;
    if let Some(seconds) = cron_job.spec.starting_deadline_seconds {
        from = from.max(now.saturating_sub(SignedDuration::from_secs(seconds)).unwrap_or(from));
    }
    let first = schedule.next(from, zone).filter(|first| *first <= now)?;
    let second = schedule.next(first, zone).filter(|second| *second <= now);
    let Some(second) = second else { return Some((first, 1)) };
    // Months of every minute are not walked through: from the second on, most are jumped over.
    let interval = second.duration_since(first).as_secs().max(1);
    let mut missed = usize::try_from(now.duration_since(first).as_secs() / interval).unwrap_or(usize::MAX).max(1) + 1;
    let mut at = now.saturating_sub(SignedDuration::from_secs(interval * 2)).unwrap_or(second).max(second);
    if schedule.next(at, zone).is_none_or(|next| next > now) {
        at = second;
    }
    let mut recent = if at == second { second } else { schedule.next(at, zone)? };
    let mut steps = 0;
    while let Some(next) = schedule.next(recent, zone).filter(|next| *next <= now) {
        recent = next;
        steps += 1;
    }
    if at == second {
        missed = missed.max(2 + steps);
    }
    Some((recent, missed))
}

fn new_job(cron_job: &CronJob, name: String, scheduled: Timestamp, zone: &TimeZone) -> Job {
    let template = &cron_job.spec.job_template;
    let metadata = template.metadata.clone().unwrap_or_default();
    let mut annotations = metadata.annotations.unwrap_or_default();
    let time = scheduled.to_zoned(zone.clone());
    let text = if *zone == TimeZone::UTC { clock::rfc3339_seconds(scheduled) } else { time.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string() };
    annotations.insert(SCHEDULED.into(), text);
    Job {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: cron_job.metadata.namespace.clone(),
            labels: metadata.labels,
            annotations: Some(annotations),
            creation_timestamp: None,
            owner_references: Some(vec![owners::controller_reference(cron_job)]),
            ..Default::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

pub fn reference(job: &Job) -> ObjectReference {
    controller_kit::reference(job)
}
