//! CronJobs under a clock that is moved: days on which clocks are set forward, and back.
use crate::support::SOON;
use clock::{Clock, SystemClock};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use std::time::Duration;
use testkit::{Api, MovedClock, Server, ServerOptions, wait_until};

const CRON_JOBS: &str = "/apis/batch/v1/namespaces/default/cronjobs";
const JOBS: &str = "/apis/batch/v1/namespaces/default/jobs";
const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

/// A server whose clock the test moves.
struct Moved {
    _server: Server,
    api: Api,
    clock: MovedClock,
    _directory: tempfile::TempDir,
}

impl Moved {
    fn at(time: Timestamp) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = MovedClock::new(directory.path());
        clock.set_ahead(ahead(time));
        let server = Server::start(ServerOptions {
            arguments: ["--disable-agent", "--disable", "scheduler,hosting,iam"].map(Into::into).into(),
            environment: clock.environment(),
            is_host: true,
            ..ServerOptions::default()
        });
        let api = server.api().ahead(ahead(time));
        Self { _server: server, api, clock, _directory: directory }
    }

    fn go_to(&mut self, time: Timestamp) {
        self.clock.set_ahead(ahead(time));
        self.api = self.api.ahead(ahead(time));
    }

    /// The times that a CronJob's Jobs were made for. A controller sleeps until its next time; a change wakes it.
    fn runs(&self, cron_job: &str) -> Vec<String> {
        self.api.patch("merge", &format!("{CRON_JOBS}/{cron_job}"), &json!({"metadata": {"annotations": {"look": SystemClock.now().to_string()}}})).ok();
        let jobs = self.api.get(JOBS).ok();
        let own = jobs["items"].as_array().unwrap().iter().filter(|job| job["metadata"]["ownerReferences"][0]["name"] == cron_job);
        let mut times: Vec<String> = own.map(|job| job["metadata"]["annotations"][SCHEDULED].as_str().unwrap().to_owned()).collect();
        times.sort();
        times
    }

    #[track_caller]
    fn runs_at(&self, cron_job: &str, times: &[String]) {
        wait_until(&format!("{cron_job} runs at {times:?}"), SOON, || self.runs(cron_job) == times);
    }
}

fn ahead(time: Timestamp) -> Duration {
    Duration::try_from(time.duration_since(SystemClock.now())).expect("it is yet to come")
}

fn hours(hours: i64) -> SignedDuration {
    SignedDuration::from_hours(hours)
}

#[test]
fn a_time_that_is_skipped_has_no_run_and_one_that_comes_twice_has_two() {
    let zone = TimeZone::get("Europe/Berlin").unwrap();
    let mut changes = zone.following(SystemClock.now()).filter(|change| change.timestamp() > SystemClock.now() + hours(48));
    let forward = changes.find(|change| change.dst().is_dst()).expect("clocks are set forward each year").timestamp();
    let back = zone.following(forward).next().expect("and back").timestamp();
    let day = |change: Timestamp, days: i64| (change + hours(24 * days)).to_zoned(zone.clone()).date().to_string();
    // From two o'clock of the day before.
    let mut moved = Moved::at(forward - hours(26));
    for (name, schedule) in [("nightly", "30 2 * * *"), ("after", "10 3 * * *")] {
        let pod = json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}});
        let spec = json!({"schedule": schedule, "timeZone": "Europe/Berlin", "jobTemplate": {"spec": {"template": pod}}});
        moved.api.post(CRON_JOBS, &json!({"metadata": {"name": name}, "spec": spec})).ok();
    }
    let at = |day: String, time: &str| format!("{day}T{time}");
    let (before, after) = (at(day(forward, -1), "02:30:00+01:00"), at(day(forward, 1), "02:30:00+02:00"));
    moved.go_to(forward - hours(20));
    moved.runs_at("nightly", std::slice::from_ref(&before));
    moved.runs_at("after", &[at(day(forward, -1), "03:10:00+01:00")]);
    // There is no half past two on this day.
    moved.go_to(forward + hours(6));
    moved.runs_at("after", &[at(day(forward, -1), "03:10:00+01:00"), at(day(forward, 0), "03:10:00+02:00")]);
    assert_eq!(moved.runs("nightly"), std::slice::from_ref(&before));
    moved.go_to(forward + hours(24));
    moved.runs_at("nightly", &[before, after]);

    // And half past two comes twice on that one.
    let first = at(day(back, 0), "02:30:00+02:00");
    moved.go_to(back - SignedDuration::from_mins(10));
    wait_until("the first is run", SOON, || moved.runs("nightly").last() == Some(&first));
    moved.go_to(back + SignedDuration::from_mins(40));
    let second = at(day(back, 0), "02:30:00+01:00");
    wait_until("the second is run", SOON, || moved.runs("nightly").iter().filter(|time| **time == first || **time == second).count() == 2);
    let last = at(day(back, -1), "03:10:00+02:00");
    wait_until("three o'clock is yet to come", SOON, || moved.runs("after").last() == Some(&last));
}
