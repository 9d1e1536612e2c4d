//! Tables of what the cron job controller does in which world.
use super::reconcile::reconcile;
use super::*;
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
