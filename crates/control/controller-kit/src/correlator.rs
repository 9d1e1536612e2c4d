//! Correlator: which occurrences become a new Event, which raise the count of one, and which are dropped.
use api_meta::ClusterName;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Event, EventSeries, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, Time};
use serde_json::{Value, json};
use std::collections::HashMap;

/// An Event's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    Normal,
    Warning,
}

impl EventKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// Something that happened to an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Occurrence {
    pub cluster: ClusterName,
    pub about: ObjectReference,
    pub kind: EventKind,
    pub reason: String,
    pub message: String,
    /// Set by components that report in the manner of events.k8s.io (the scheduler): `eventTime` and
    /// `series` instead of first/last timestamp and count.
    pub action: Option<&'static str>,
}

/// What to write for an occurrence.
#[derive(Clone, Debug, PartialEq)]
pub enum Writing {
    Create(Box<Event>),
    /// A merge patch of an Event written before.
    Patch {
        name: String,
        patch: Value,
    },
}

/// More different messages than this, alike in all else, within ten minutes become one combined Event.
const ALIKE_LIMIT: usize = 10;
const ALIKE_WINDOW: SignedDuration = SignedDuration::from_secs(600);
/// An object may cause a burst of 25 events, and then one every five minutes.
const BURST: f64 = 25.0;
const REFILL_SECONDS: f64 = 300.0;
/// A series continues while it is not silent for longer than this.
const SERIES_WINDOW: SignedDuration = SignedDuration::from_secs(360);
/// What is remembered of each sort, as upstream's caches.
const REMEMBERED: usize = 4096;

#[derive(Clone, PartialEq, Eq, Hash)]
struct Subject {
    cluster: ClusterName,
    kind: String,
    namespace: String,
    name: String,
    uid: String,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Sort {
    subject: Subject,
    event_kind: EventKind,
    reason: String,
}

struct Alike {
    messages: std::collections::HashSet<String>,
    last: Timestamp,
}

struct Seen {
    name: String,
    count: i32,
    first: Timestamp,
    last: Timestamp,
}

struct Bucket {
    tokens: f64,
    filled: Timestamp,
}

/// Decides as client-go's EventCorrelator does: spam filter, aggregation, counting.
pub struct Correlator {
    component: &'static str,
    buckets: HashMap<Subject, Bucket>,
    alike: HashMap<Sort, Alike>,
    seen: HashMap<(Sort, String), Seen>,
}

impl Correlator {
    pub fn new(component: &'static str) -> Self {
        Self { component, buckets: HashMap::new(), alike: HashMap::new(), seen: HashMap::new() }
    }

    /// `None` when the object has caused too many events.
    pub fn correlate(&mut self, occurrence: &Occurrence, now: Timestamp) -> Option<Writing> {
        self.forget_old();
        let about = &occurrence.about;
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let subject = Subject {
            cluster: occurrence.cluster.clone(),
            kind: text(&about.kind),
            namespace: text(&about.namespace),
            name: text(&about.name),
            uid: text(&about.uid),
        };
        let sort = Sort { subject: subject.clone(), event_kind: occurrence.kind, reason: occurrence.reason.clone() };
        if occurrence.action.is_some() {
            return Some(self.in_series(sort, occurrence, now));
        }
        let alike = self.alike.entry(sort.clone()).or_insert_with(|| Alike { messages: Default::default(), last: now });
        if now.duration_since(alike.last) > ALIKE_WINDOW {
            alike.messages.clear();
        }
        alike.last = now;
        alike.messages.insert(occurrence.message.clone());
        let (message, identity) = if alike.messages.len() < ALIKE_LIMIT {
            (occurrence.message.clone(), occurrence.message.clone())
        } else {
            // One message is taken out again, so that the set can't grow while the flood lasts.
            alike.messages.remove(&occurrence.message);
            (format!("(combined from similar events): {}", occurrence.message), String::new())
        };
        if !self.allows(subject, now) {
            return None;
        }
        let seen = self.seen.entry((sort, identity)).or_insert_with(|| Seen { name: String::new(), count: 0, first: now, last: now });
        seen.count += 1;
        seen.last = now;
        if seen.count > 1 {
            let patch = json!({"count": seen.count, "lastTimestamp": clock::rfc3339_seconds(now), "message": message});
            return Some(Writing::Patch { name: seen.name.clone(), patch });
        }
        let mut event = new_event(occurrence, self.component, message, now);
        seen.name = event.metadata.name.clone().unwrap_or_default();
        event.first_timestamp = Some(Time(seen.first));
        event.last_timestamp = Some(Time(now));
        event.count = Some(1);
        Some(Writing::Create(Box::new(event)))
    }

    fn in_series(&mut self, sort: Sort, occurrence: &Occurrence, now: Timestamp) -> Writing {
        let seen = self.seen.entry((sort, occurrence.message.clone())).or_insert_with(|| Seen { name: String::new(), count: 0, first: now, last: now });
        if now.duration_since(seen.last) > SERIES_WINDOW {
            seen.count = 0;
        }
        seen.count += 1;
        seen.last = now;
        if seen.count > 1 {
            let series = EventSeries { count: Some(seen.count), last_observed_time: Some(MicroTime(now)) };
            return Writing::Patch { name: seen.name.clone(), patch: json!({ "series": series }) };
        }
        let mut event = new_event(occurrence, self.component, occurrence.message.clone(), now);
        seen.name = event.metadata.name.clone().unwrap_or_default();
        event.source = Some(EventSource::default());
        event.action = occurrence.action.map(str::to_owned);
        event.event_time = Some(MicroTime(now));
        event.reporting_instance = Some(self.component.to_owned());
        Writing::Create(Box::new(event))
    }

    /// The Event written for this occurrence is gone: the next one is a new Event.
    pub fn lost(&mut self, name: &str) {
        self.seen.retain(|_, seen| seen.name != name);
    }

    fn allows(&mut self, subject: Subject, now: Timestamp) -> bool {
        let bucket = self.buckets.entry(subject).or_insert(Bucket { tokens: BURST, filled: now });
        bucket.tokens = (bucket.tokens + now.duration_since(bucket.filled).as_secs_f64().max(0.0) / REFILL_SECONDS).min(BURST);
        bucket.filled = now;
        let allowed = bucket.tokens >= 1.0;
        if allowed {
            bucket.tokens -= 1.0;
        }
        allowed
    }

    /// Drops the older half of whatever grew too large.
    fn forget_old(&mut self) {
        fn halve<K, V>(map: &mut HashMap<K, V>, last: impl Fn(&V) -> Timestamp) {
            if map.len() < REMEMBERED {
                return;
            }
            let mut times: Vec<Timestamp> = map.values().map(&last).collect();
            times.sort_unstable();
            let middle = times[times.len() / 2];
            map.retain(|_, value| last(value) > middle);
        }
        halve(&mut self.buckets, |b| b.filled);
        halve(&mut self.alike, |a| a.last);
        halve(&mut self.seen, |s| s.last);
    }
}

fn new_event(occurrence: &Occurrence, component: &str, message: String, now: Timestamp) -> Event {
    let about = &occurrence.about;
    // An Event of a cluster-scoped object lives in the default namespace.
    let namespace = about.namespace.clone().filter(|n| !n.is_empty()).unwrap_or_else(|| "default".to_owned());
    let name = format!("{}.{:x}", about.name.as_deref().unwrap_or_default(), now.as_nanosecond());
    Event {
        metadata: ObjectMeta { name: Some(name), namespace: Some(namespace), ..Default::default() },
        involved_object: about.clone(),
        reason: Some(occurrence.reason.clone()),
        message: Some(message),
        type_: Some(occurrence.kind.as_str().to_owned()),
        source: Some(EventSource { component: Some(component.to_owned()), host: None }),
        reporting_component: Some(component.to_owned()),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn occurrence(message: &str, action: Option<&'static str>) -> Occurrence {
        let about = ObjectReference { kind: Some("Pod".into()), name: Some("p".into()), namespace: Some("n".into()), ..Default::default() };
        Occurrence { cluster: ClusterName::root(), about, kind: EventKind::Normal, reason: "R".into(), message: message.into(), action }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    #[test]
    fn the_same_again_raises_the_count() {
        let mut correlator = Correlator::new("c");
        let Some(Writing::Create(event)) = correlator.correlate(&occurrence("m", None), at(0)) else { panic!() };
        assert_eq!((event.count, event.message.as_deref()), (Some(1), Some("m")));
        let Some(Writing::Patch { name, patch }) = correlator.correlate(&occurrence("m", None), at(1)) else { panic!() };
        assert_eq!((Some(name), &patch["count"]), (event.metadata.name.clone(), &json!(2)));
        correlator.lost(event.metadata.name.as_deref().unwrap());
        assert!(matches!(correlator.correlate(&occurrence("m", None), at(2)), Some(Writing::Create(_))));
    }

    #[test]
    fn many_alike_are_combined_and_a_flood_is_dropped() {
        let mut correlator = Correlator::new("c");
        let made: Vec<_> = (0..30).map(|n| correlator.correlate(&occurrence(&format!("m{n}"), None), at(0))).collect();
        let Some(Writing::Create(tenth)) = &made[9] else { panic!() };
        assert_eq!(tenth.message.as_deref(), Some("(combined from similar events): m9"));
        assert!(matches!(made[10], Some(Writing::Patch { .. })));
        assert_eq!(made.iter().filter(|m| m.is_some()).count(), 25);
        assert!(correlator.correlate(&occurrence("late", None), at(301)).is_some());
    }

    #[test]
    fn series_end_after_six_silent_minutes() {
        let mut correlator = Correlator::new("c");
        let Some(Writing::Create(event)) = correlator.correlate(&occurrence("m", Some("Binding")), at(0)) else { panic!() };
        assert!(event.event_time.is_some() && event.count.is_none());
        let Some(Writing::Patch { patch, .. }) = correlator.correlate(&occurrence("m", Some("Binding")), at(300)) else { panic!() };
        assert_eq!(patch["series"]["count"], 2);
        assert!(matches!(correlator.correlate(&occurrence("m", Some("Binding")), at(900)), Some(Writing::Create(_))));
    }
}
