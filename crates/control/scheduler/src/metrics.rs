//! Metrics of the scheduler, by upstream's names.
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use std::sync::LazyLock;
use std::time::Duration;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Attempt {
    profile: &'static str,
    result: &'static str,
}

struct Families {
    attempts: Family<Attempt, Counter>,
    durations: Family<Attempt, Histogram, fn() -> Histogram>,
}

static FAMILIES: LazyLock<Families> = LazyLock::new(|| {
    let histogram: fn() -> Histogram = || Histogram::new(exponential_buckets(0.001, 2.0, 15));
    let families = Families { attempts: Family::default(), durations: Family::new_with_constructor(histogram) };
    let help = "Number of attempts to schedule pods, by the result. 'unschedulable' means a pod could not be scheduled";
    telemetry::metrics::register("scheduler_schedule_attempts", help, families.attempts.clone());
    let help = "Scheduling attempt latency in seconds (scheduling algorithm)";
    telemetry::metrics::register("scheduler_scheduling_attempt_duration_seconds", help, families.durations.clone());
    families
});

/// Counts one decision about a pod.
pub fn attempted(profile: &'static str, scheduled: bool, took: Duration) {
    let attempt = Attempt { profile, result: if scheduled { "scheduled" } else { "unschedulable" } };
    FAMILIES.durations.get_or_create(&attempt).observe(took.as_secs_f64());
    FAMILIES.attempts.get_or_create(&attempt).inc();
}
