//! Events: what the node tells users about their pods, counted instead of repeated.
use crate::pod::containers::{ephemeral_containers, init_containers};
use crate::pod::identity::{name, namespace};
use api_client::Clients;
use api_meta::ClusterName;
use clock::Clock;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Event, EventSource, Node, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Api, Patch, PatchParams, PostParams};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use tokio::sync::mpsc;

const COMPONENT: &str = "kubelet";
/// More than this waits for a slow API: what comes then is dropped.
const BACKLOG: usize = 4096;
/// How many different events are remembered, to be counted rather than created again.
const REMEMBERED: usize = 4096;
/// Per object: this many at once, then one each refill (upstream's spam filter).
const BURST: f64 = 25.0;
const REFILL_SECONDS: f64 = 300.0;
/// After this many events that differ in their message only, within the time below, they become one.
const SIMILAR: usize = 10;
const SIMILAR_WITHIN: SignedDuration = SignedDuration::from_mins(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    Normal,
    Warning,
}

/// What happened to which object.
#[derive(Clone, Debug)]
struct Record {
    cluster: ClusterName,
    about: ObjectReference,
    type_: EventType,
    reason: &'static str,
    message: String,
    at: Timestamp,
}

/// Takes events and writes them in the background. Cheap to clone.
#[derive(Clone)]
pub struct EventRecorder {
    sender: mpsc::Sender<Record>,
    clock: Arc<dyn Clock>,
}

impl EventRecorder {
    /// Starts writing, until all recorders are dropped.
    pub fn start(clients: Arc<dyn Clients>, clock: Arc<dyn Clock>, node: String) -> Self {
        let (sender, mut records) = mpsc::channel::<Record>(BACKLOG);
        tokio::spawn(async move {
            let mut correlator = Correlator::default();
            while let Some(record) = records.recv().await {
                let Some(write) = correlator.next(&record, &node) else { continue };
                if let Err(error) = write_event(&*clients, &record, &write, &node).await {
                    correlator.forget(&record);
                    tracing::debug!(%error, reason = record.reason, "an event could not be written");
                }
            }
        });
        Self { sender, clock }
    }

    /// An event of a whole pod.
    pub fn pod(&self, cluster: &ClusterName, pod: &Pod, type_: EventType, reason: &'static str, message: impl Into<String>) {
        self.record(cluster, pod_reference(pod, None), type_, reason, message.into());
    }

    /// An event of one container.
    pub fn container(&self, cluster: &ClusterName, pod: &Pod, container: &str, type_: EventType, reason: &'static str, message: impl Into<String>) {
        self.record(cluster, pod_reference(pod, Some(container)), type_, reason, message.into());
    }

    /// An event of the node.
    pub fn node(&self, node: &Node, type_: EventType, reason: &'static str, message: impl Into<String>) {
        let name = node.metadata.name.clone();
        // As upstream, the name stands for the uid.
        let about = ObjectReference { kind: Some("Node".into()), uid: name.clone(), name, ..Default::default() };
        self.record(&ClusterName::root(), about, type_, reason, message.into());
    }

    fn record(&self, cluster: &ClusterName, about: ObjectReference, type_: EventType, reason: &'static str, message: String) {
        let record = Record { cluster: cluster.clone(), about, type_, reason, message, at: self.clock.now() };
        if self.sender.try_send(record).is_err() {
            tracing::debug!(reason, "an event is dropped, since too many wait to be written");
        }
    }
}

fn pod_reference(pod: &Pod, container: Option<&str>) -> ObjectReference {
    let field_path = container.map(|container| {
        let list = if init_containers(pod).iter().any(|c| c.name == container) {
            "initContainers"
        } else if ephemeral_containers(pod).iter().any(|c| c.name == container) {
            "ephemeralContainers"
        } else {
            "containers"
        };
        format!("spec.{list}{{{container}}}")
    });
    ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Pod".into()),
        name: Some(name(pod).into()),
        namespace: Some(namespace(pod).into()),
        uid: pod.metadata.uid.clone(),
        resource_version: pod.metadata.resource_version.clone(),
        field_path,
    }
}

/// How a record reaches the API.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Write {
    Create { name: String, message: String },
    Count { name: String, message: String, count: i32 },
}

#[derive(Default)]
struct Correlator {
    seen: HashMap<String, Seen>,
    order: VecDeque<String>,
    similar: HashMap<String, VecDeque<(Timestamp, String)>>,
    budgets: HashMap<String, (f64, Timestamp)>,
}

struct Seen {
    name: String,
    count: i32,
}

impl Correlator {
    fn next(&mut self, record: &Record, node: &str) -> Option<Write> {
        let object =
            format!("{}/{}/{}", record.cluster, record.about.namespace.as_deref().unwrap_or_default(), record.about.uid.as_deref().unwrap_or_default());
        if !self.take(&object, record.at) {
            return None;
        }
        let message = self.combined(&object, record);
        let key = key_of(record, &message);
        if let Some(seen) = self.seen.get_mut(&key) {
            seen.count += 1;
            return Some(Write::Count { name: seen.name.clone(), message, count: seen.count });
        }
        let about = record.about.name.as_deref().unwrap_or(node);
        let name = format!("{about}.{:x}{}", record.at.as_nanosecond(), clock::random_suffix(3));
        self.seen.insert(key.clone(), Seen { name: name.clone(), count: 1 });
        self.order.push_back(key);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.seen.remove(&oldest);
        }
        Some(Write::Create { name, message })
    }

    /// The API does not have it (any more): the next one is created anew.
    fn forget(&mut self, record: &Record) {
        let key = key_of(record, &record.message);
        self.seen.remove(&key);
        self.order.retain(|k| *k != key);
    }

    fn take(&mut self, object: &str, at: Timestamp) -> bool {
        if self.budgets.len() > REMEMBERED {
            // Full budgets say nothing.
            self.budgets.retain(|_, (left, since)| *left + at.duration_since(*since).as_secs_f64() / REFILL_SECONDS < BURST);
        }
        let (left, since) = self.budgets.entry(object.to_owned()).or_insert((BURST, at));
        *left = (*left + at.duration_since(*since).as_secs_f64().max(0.0) / REFILL_SECONDS).min(BURST);
        *since = at;
        if *left < 1.0 {
            return false;
        }
        *left -= 1.0;
        true
    }

    fn combined(&mut self, object: &str, record: &Record) -> String {
        if self.similar.len() > REMEMBERED {
            self.similar.retain(|_, list| list.back().is_some_and(|(at, _)| record.at.duration_since(*at) <= SIMILAR_WITHIN));
        }
        let path = record.about.field_path.as_deref().unwrap_or_default();
        let list = self.similar.entry(format!("{object}/{path}/{}", record.reason)).or_default();
        list.retain(|(at, _)| record.at.duration_since(*at) <= SIMILAR_WITHIN);
        if !list.iter().any(|(_, message)| *message == record.message) {
            list.push_back((record.at, record.message.clone()));
        }
        if list.len() > SIMILAR {
            list.truncate(SIMILAR + 1);
            return format!("(combined from similar events): {}", record.message);
        }
        record.message.clone()
    }
}

fn key_of(record: &Record, message: &str) -> String {
    let about = &record.about;
    let combined = message.starts_with("(combined from similar events)");
    let parts = [record.cluster.as_str(), about.uid.as_deref().unwrap_or_default(), about.field_path.as_deref().unwrap_or_default(), record.reason];
    format!("{}/{}", parts.join("/"), if combined { "(combined)" } else { message })
}

async fn write_event(clients: &dyn Clients, record: &Record, write: &Write, node: &str) -> Result<(), kube::Error> {
    let namespace = record.about.namespace.as_deref().unwrap_or("default");
    let api: Api<Event> = Api::namespaced(clients.cluster(&record.cluster), namespace);
    match write {
        Write::Create { name, message } => api.create(&PostParams::default(), &event(record, name, message, 1, node)).await.map(|_| ()),
        Write::Count { name, message, count } => {
            let patch = serde_json::json!({"count": count, "message": message, "lastTimestamp": Time(record.at)});
            match api.patch(name, &PatchParams::default(), &Patch::Strategic(patch)).await {
                Ok(_) => Ok(()),
                // It expired.
                Err(error) if api_client::is_not_found(&error) => {
                    api.create(&PostParams::default(), &event(record, name, message, *count, node)).await.map(|_| ())
                }
                Err(error) => Err(error),
            }
        }
    }
}

fn event(record: &Record, name: &str, message: &str, count: i32, node: &str) -> Event {
    Event {
        metadata: ObjectMeta {
            name: Some(name.into()),
            namespace: Some(record.about.namespace.clone().unwrap_or_else(|| "default".into())),
            labels: None::<BTreeMap<String, String>>,
            ..Default::default()
        },
        involved_object: record.about.clone(),
        reason: Some(record.reason.into()),
        // The API takes no more.
        message: Some(message.chars().take(1024).collect()),
        type_: Some(format!("{:?}", record.type_)),
        count: Some(count),
        first_timestamp: Some(Time(record.at)),
        last_timestamp: Some(Time(record.at)),
        source: Some(EventSource { component: Some(COMPONENT.into()), host: Some(node.into()) }),
        reporting_component: Some(COMPONENT.into()),
        reporting_instance: Some(node.into()),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(message: &str, second: i64) -> Record {
        let about = ObjectReference { name: Some("p".into()), namespace: Some("n".into()), uid: Some("u".into()), ..Default::default() };
        let at = Timestamp::from_second(second).unwrap();
        Record { cluster: ClusterName::root(), about, type_: EventType::Normal, reason: "Pulled", message: message.into(), at }
    }

    #[test]
    fn repeated_events_are_counted_and_floods_are_cut() {
        let mut correlator = Correlator::default();
        assert!(matches!(correlator.next(&record("a", 0), "node"), Some(Write::Create { .. })));
        assert!(matches!(correlator.next(&record("a", 1), "node"), Some(Write::Count { count: 2, .. })));
        assert!(matches!(correlator.next(&record("b", 1), "node"), Some(Write::Create { .. })));
        let allowed = (0..100).filter(|_| correlator.next(&record("a", 2), "node").is_some()).count();
        assert_eq!(allowed, 22);
        assert!(correlator.next(&record("a", 302), "node").is_some());
    }

    #[test]
    fn many_alike_become_one() {
        let mut correlator = Correlator::default();
        let writes: Vec<Write> = (0..13).filter_map(|i| correlator.next(&record(&format!("message {i}"), 0), "node")).collect();
        assert!(matches!(&writes[9], Write::Create { message, .. } if message == "message 9"));
        assert!(matches!(&writes[10], Write::Create { message, .. } if message == "(combined from similar events): message 10"));
        assert!(matches!(&writes[12], Write::Count { count: 3, .. }), "{:?}", writes[12]);
    }
}
