//! Times as objects carry them: whole seconds, and how far apart they are.
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::time::Duration;

/// `now` as `metav1.Time` keeps it. Comparing a fresh time with a stored one needs this.
pub fn whole_seconds(now: Timestamp) -> Time {
    Time(Timestamp::from_second(now.as_second()).expect("a timestamp's own second is in range"))
}

/// How long ago `then` was; zero when it is yet to come.
pub fn seconds_since(then: &Time, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(then.0)).unwrap_or_default()
}

/// How long until `after` has passed since `then`; `None` when it has.
pub fn until(then: Timestamp, after: Duration, now: Timestamp) -> Option<Duration> {
    let end = then.saturating_add(jiff::SignedDuration::try_from(after).unwrap_or(jiff::SignedDuration::MAX)).unwrap_or(Timestamp::MAX);
    Duration::try_from(end.duration_since(now)).ok().filter(|left| !left.is_zero())
}
