//! Tables of what the cron job controller does in which world.
use super::reconcile::reconcile;
use super::*;
use controller_kit::converges;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::sync::Arc;

fn at(time: &str) -> Timestamp {
    format!("2026-01-01T{time}Z").parse().unwrap()
}

fn world(now: &str, spec: Value, status: Value, jobs: Vec<Arc<Job>>) -> World {
    let mut value = json!({"metadata": {"name": "c", "namespace": "n", "uid": "cron", "creationTimestamp": "2026-01-01T00:00:10Z"},
        "spec": {"schedule": "*/10 * * * *", "jobTemplate": {"metadata": {"labels": {"a": "b"}}, "spec": {"template": {}}}}, "status": status});
    value["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    World { cron_job: Arc::new(serde_json::from_value(value).unwrap()), jobs, now: at(now) }
}

fn job(name: &str, condition: Option<&str>) -> Arc<Job> {
    let conditions: Vec<Value> = condition.iter().map(|kind| json!({"type": kind, "status": "True"})).collect();
    let value = json!({"metadata": {"name": name, "uid": name}, "status": {"startTime": "2026-01-01T00:00:00Z", "conditions": conditions}});
    Arc::new(serde_json::from_value(value).unwrap())
}

fn short(world: &World) -> String {
    let text = reconcile(world).actions.into_iter().filter_map(|action| match action {
        Action::CreateJob(job) => Some(format!("+{}", job.metadata.name.unwrap())),
        Action::DeleteJob(job) => Some(format!("-{}", job.metadata.name.clone().unwrap())),
        Action::Tell { reason, .. } => Some(reason.to_owned()),
        Action::SetStatus(_) => None,
    });
    text.collect::<Vec<_>>().join(" ")
}

const TEN_PAST: &str = "+c-29453770";

#[test]
fn a_job_is_made_when_its_time_comes_and_only_once() {
    let plan = reconcile(&world("00:09:00", json!({}), json!({}), vec![]));
    assert_eq!((plan.actions.len(), plan.again_after.map(|d| d.as_millis())), (0, Some(60_100)));
    let due = world("00:10:01", json!({}), json!({}), vec![]);
    assert_eq!(short(&due), TEN_PAST);
    let actions = reconcile(&due).actions;
    let [Action::CreateJob(made), Action::SetStatus(status)] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!(made.metadata.annotations.as_ref().unwrap()["batch.kubernetes.io/cronjob-scheduled-timestamp"], "2026-01-01T00:10:00Z");
    assert_eq!((made.metadata.labels.as_ref().unwrap()["a"].as_str(), status.last_schedule_time.as_ref().unwrap().0), ("b", at("00:10:00")));
    assert_eq!(short(&world("00:10:05", json!({}), json!({"lastScheduleTime": "2026-01-01T00:10:00Z"}), vec![])), "");
    assert_eq!(short(&world("00:10:01", json!({"suspend": true}), json!({}), vec![])), "");
}

#[test]
fn of_missed_times_only_the_last_is_made_up_and_not_too_late() {
    assert_eq!(short(&world("00:35:00", json!({}), json!({}), vec![])), "+c-29453790");
    assert_eq!(short(&world("23:55:00", json!({"schedule": "* * * * *"}), json!({}), vec![])), "TooManyMissedTimes +c-29455195");
    assert_eq!(short(&world("00:35:00", json!({"startingDeadlineSeconds": 60}), json!({}), vec![])), "");
    assert_eq!(short(&world("00:30:30", json!({"startingDeadlineSeconds": 60}), json!({}), vec![])), "+c-29453790");
}

#[test]
fn concurrency_is_as_the_policy_says() {
    let running = || (json!({"active": [{"name": "old", "uid": "old"}]}), vec![job("old", None)]);
    for (policy, want) in [("Allow", TEN_PAST.to_owned()), ("Forbid", "JobAlreadyActive".into()), ("Replace", format!("-old {TEN_PAST}"))] {
        let (status, jobs) = running();
        assert_eq!(short(&world("00:10:01", json!({"concurrencyPolicy": policy}), status, jobs)), want, "{policy}");
    }
}

#[test]
fn finished_jobs_are_seen_and_old_ones_go() {
    let jobs = vec![job("a", Some("Complete")), job("b", Some("Complete")), job("f1", Some("Failed")), job("f2", Some("Failed"))];
    let seen =
        world("00:05:00", json!({"successfulJobsHistoryLimit": 1}), json!({"active": [{"name": "b", "uid": "b"}, {"name": "gone", "uid": "gone"}]}), jobs);
    assert_eq!(short(&seen), "SawCompletedJob MissingJob -a -f1");
}

#[test]
fn a_job_made_by_who_did_not_get_to_write_it_down_is_not_made_again() {
    let made = |condition| {
        let mut job = job("c-29453770", condition);
        Arc::make_mut(&mut job).metadata.annotations = Some([("batch.kubernetes.io/cronjob-scheduled-timestamp".into(), "2026-01-01T00:10:00Z".into())].into());
        job
    };
    let told = |actions: &[Action]| {
        actions
            .iter()
            .map(|action| matches!(action, Action::SetStatus(status) if status.last_schedule_time.as_ref().unwrap().0 == at("00:10:00")))
            .collect::<Vec<_>>()
    };
    let running = reconcile(&world("00:10:05", json!({}), json!({}), vec![made(None)])).actions;
    assert_eq!((told(&running), running.len()), (vec![true], 1), "{running:?}");
    // Its time is known before it goes, as with it goes all that tells of it.
    let ended = world("00:10:05", json!({"successfulJobsHistoryLimit": 0}), json!({}), vec![made(Some("Complete"))]);
    let actions = reconcile(&ended).actions;
    assert!(told(&actions) == [true, false] && matches!(actions[1], Action::DeleteJob(_)), "{actions:?}");
    // One made by hand has no such time.
    assert_eq!(short(&world("00:10:05", json!({}), json!({}), vec![job("by-hand", Some("Complete"))])), TEN_PAST);
}

/// Does to the world what the API and the Job controller would: every Job ends at once.
fn apply(world: &mut World, action: Action) {
    match action {
        Action::CreateJob(job) => {
            let mut ended = (*self::job(job.metadata.name.as_deref().unwrap(), Some("Complete"))).clone();
            ended.metadata.annotations = job.metadata.annotations;
            world.jobs.push(Arc::new(ended));
        }
        Action::DeleteJob(job) => world.jobs.retain(|other| other.metadata.uid != job.metadata.uid),
        Action::SetStatus(status) => Arc::make_mut(&mut world.cron_job).status = Some(status),
        Action::Tell { .. } => {}
    }
}

#[test]
fn each_policy_comes_to_rest() {
    for policy in ["Allow", "Forbid", "Replace"] {
        let jobs = vec![job("a", Some("Complete")), job("b", Some("Complete")), job("f1", Some("Failed")), job("f2", Some("Failed"))];
        let spec = json!({"concurrencyPolicy": policy, "successfulJobsHistoryLimit": 1});
        let end = converges(world("00:10:01", spec, json!({"active": [{"name": "gone", "uid": "gone"}]}), jobs), 3, reconcile, apply);
        assert_eq!(end.jobs.iter().map(|job| job.metadata.name.clone().unwrap()).collect::<Vec<_>>(), ["f2", "c-29453770"], "{policy}");
        assert_eq!(end.cron_job.status.as_ref().unwrap().active, None);
    }
}

#[test]
fn what_can_not_be_understood_is_told() {
    assert_eq!(short(&world("00:10:01", json!({"schedule": "x"}), json!({}), vec![])), "UnparseableSchedule");
    assert_eq!(short(&world("00:10:01", json!({"timeZone": "Nowhere/Land"}), json!({}), vec![])), "UnknownTimeZone");
    let zoned = json!({"schedule": "0 9 * * *", "timeZone": "Asia/Tokyo"});
    assert_eq!(short(&world("00:00:30", zoned, json!({"lastScheduleTime": "2025-12-31T23:59:00Z"}), vec![])), "+c-29453760");
}

#[test]
fn intervals_count_from_the_last_start() {
    let every = || json!({"schedule": "@every 1h"});
    let plan = reconcile(&world("00:30:10", every(), json!({}), vec![]));
    assert_eq!((plan.actions.len(), plan.again_after.map(|d| d.as_millis())), (0, Some(1_800_100)));
    let late = json!({"lastScheduleTime": "2026-01-01T01:00:00Z"});
    assert_eq!(reconcile(&world("01:40:00", every(), late, vec![])).again_after.map(|d| d.as_millis()), Some(1_200_100));
}

/// The times of the jobs made between two moments by a controller that looks whenever it asked to.
fn runs(schedule: &str, from: &str, to: &str) -> Vec<String> {
    let (from, to): (Timestamp, Timestamp) = (from.parse().unwrap(), to.parse().unwrap());
    let clock = clock::ManualClock::at(from);
    let mut world = world("00:00:00", json!({"schedule": schedule, "timeZone": "Europe/Berlin"}), json!({}), vec![]);
    Arc::make_mut(&mut world.cron_job).metadata.creation_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(from));
    let mut made = Vec::new();
    loop {
        world.now = clock::Clock::now(&clock);
        if world.now > to {
            return made;
        }
        let plan = reconcile(&world);
        for action in plan.actions {
            match action {
                Action::CreateJob(job) => made.push(job.metadata.annotations.unwrap()["batch.kubernetes.io/cronjob-scheduled-timestamp"].clone()),
                Action::SetStatus(status) => Arc::make_mut(&mut world.cron_job).status = Some(status),
                other => panic!("{other:?}"),
            }
        }
        // What was made has ended by the next look.
        Arc::make_mut(&mut world.cron_job).status.get_or_insert_default().active = None;
        clock.advance(reconcile(&world).again_after.expect("there is a next time"));
    }
}

#[test]
fn clocks_that_are_set_forward_skip_and_clocks_that_are_set_back_repeat() {
    // In the night to the 29th of March the clock goes from 2:00 to 3:00.
    let nightly = runs("30 2 * * *", "2026-03-27T12:00:00Z", "2026-03-31T12:00:00Z");
    assert_eq!(nightly, ["2026-03-28T02:30:00+01:00", "2026-03-30T02:30:00+02:00", "2026-03-31T02:30:00+02:00"]);
    assert_eq!(runs("0 * * * *", "2026-03-28T23:30:00Z", "2026-03-29T02:30:00Z").len(), 3);
    // In the night to the 25th of October it goes from 3:00 to 2:00.
    let nightly = runs("30 2 * * *", "2026-10-24T12:00:00Z", "2026-10-26T12:00:00Z");
    assert_eq!(nightly, ["2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00+01:00", "2026-10-26T02:30:00+01:00"]);
    assert_eq!(runs("*/20 * * * *", "2026-10-24T23:50:00Z", "2026-10-25T02:10:00Z").len(), 7, "no hour goes without");
}
