//! An API of one cluster in memory: just enough of it for a node, so that these tests need no server.
//!
//! The whole chain with the real server is tested in `tests/`.
use api_cache::{Selection, Source, SourceEvent};
use api_client::Clients;
use api_meta::ClusterName;
use futures::StreamExt;
use futures::stream::BoxStream;
use http_body_util::{BodyExt, Full};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::sync::broadcast;

#[derive(Clone)]
pub struct TestApi {
    state: Arc<Mutex<State>>,
    changes: broadcast::Sender<(String, Value, bool)>,
}

#[derive(Default)]
struct State {
    /// By path: `pods/default/web`.
    objects: BTreeMap<String, Value>,
    version: u64,
}

struct Call {
    method: String,
    resource: String,
    namespace: String,
    name: Option<String>,
    query: String,
    body: Value,
}

impl Default for TestApi {
    fn default() -> Self {
        Self { state: Arc::default(), changes: broadcast::channel(10_000).0 }
    }
}

impl TestApi {
    pub fn create(&self, resource: &str, mut object: Value) -> Value {
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
        let key = format!("{resource}/{namespace}/{}", object["metadata"]["name"].as_str().unwrap());
        let mut state = self.state.lock();
        if object["metadata"]["uid"].is_null() {
            object["metadata"]["uid"] = json!(uuid::Uuid::new_v4().to_string());
        }
        self.put(&mut state, key, object)
    }

    pub fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Value> {
        self.state.lock().objects.get(&format!("{resource}/{namespace}/{name}")).cloned()
    }

    /// Messages of a pod's events with their reasons.
    pub fn events(&self, name: &str) -> Vec<(String, String)> {
        let state = self.state.lock();
        let events = state.objects.iter().filter(|(key, event)| key.starts_with("events/") && event["involvedObject"]["name"] == name);
        events.map(|(_, event)| (event["reason"].as_str().unwrap().to_owned(), event["message"].as_str().unwrap().to_owned())).collect()
    }

    /// As a user deletes: with a grace period.
    pub fn delete_pod(&self, name: &str, grace: i64) {
        let mut state = self.state.lock();
        let key = format!("pods/default/{name}");
        let mut pod = state.objects[&key].clone();
        pod["metadata"]["deletionTimestamp"] = json!(clock::rfc3339_seconds(clock::Clock::now(&clock::SystemClock)));
        pod["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
        self.put(&mut state, key, pod);
    }

    /// Removes at once, as `kubectl delete --force` does.
    pub fn remove(&self, resource: &str, name: &str) {
        let mut state = self.state.lock();
        self.take(&mut state, &format!("{resource}/default/{name}"));
    }

    pub fn remove_node(&self, name: &str) {
        let mut state = self.state.lock();
        self.take(&mut state, &format!("nodes//{name}"));
    }

    fn put(&self, state: &mut State, key: String, mut object: Value) -> Value {
        state.version += 1;
        object["metadata"]["resourceVersion"] = json!(state.version.to_string());
        state.objects.insert(key.clone(), object.clone());
        let _ = self.changes.send((key, object.clone(), false));
        object
    }

    fn take(&self, state: &mut State, key: &str) -> Option<Value> {
        let object = state.objects.remove(key)?;
        let _ = self.changes.send((key.to_owned(), object.clone(), true));
        Some(object)
    }

    fn answer(&self, call: Call) -> (u16, Value) {
        let mut state = self.state.lock();
        let key = |name: &str| format!("{}/{}/{name}", call.resource, call.namespace);
        let not_found = || (404, json!({"kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound", "message": "not found"}));
        let existing = call.name.as_ref().and_then(|name| state.objects.get(&key(name)).cloned());
        match (call.method.as_str(), call.name.as_deref()) {
            ("GET", Some(_)) if !call.query.contains("watch=") => existing.map_or_else(not_found, |object| (200, object)),
            ("POST", None) => {
                drop(state);
                let mut body = call.body;
                if call.resource == "nodes" {
                    // A status may be ignored when an object is created.
                    body.as_object_mut().unwrap().remove("status");
                }
                (201, self.create(&call.resource, body))
            }
            (_, Some(_)) if existing.is_none() => not_found(),
            ("PUT", Some(name)) => (200, self.put(&mut state, key(name), call.body)),
            ("PATCH", Some(name)) => {
                let mut object = existing.unwrap();
                if call.body["metadata"]["uid"].is_string() && call.body["metadata"]["uid"] != object["metadata"]["uid"] {
                    return (409, json!({"kind": "Status", "status": "Failure", "code": 409, "reason": "Conflict", "message": "uid"}));
                }
                merge(&mut object, &call.body);
                (200, self.put(&mut state, key(name), object))
            }
            ("DELETE", Some(name)) => {
                assert_eq!(call.body["gracePeriodSeconds"], 0);
                (200, self.take(&mut state, &key(name)).unwrap())
            }
            _ => not_found(),
        }
    }
}

/// A strategic merge: lists of conditions and addresses by type, others replaced.
fn merge(object: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else { return object.clone_from(patch) };
    if !object.is_object() {
        *object = json!({});
    }
    for (key, value) in fields {
        if value.is_null() {
            object.as_object_mut().unwrap().remove(key);
        } else if key == "conditions" && object[key].is_array() {
            for condition in value.as_array().unwrap() {
                let list = object[key].as_array_mut().unwrap();
                match list.iter_mut().find(|c| c["type"] == condition["type"]) {
                    Some(before) => merge(before, condition),
                    None => list.push(condition.clone()),
                }
            }
        } else if let Value::Array(list) = value {
            object[key] = list.iter().filter(|item| item["$patch"].is_null()).cloned().collect();
        } else {
            merge(&mut object[key], value);
        }
    }
}

impl Clients for TestApi {
    fn cluster(&self, _: &ClusterName) -> kube::Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
            let api = api.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                let path: Vec<&str> = parts.uri.path().trim_start_matches('/').split('/').collect();
                let rest = if path[0] == "api" { &path[2..] } else { &path[3..] };
                let (namespace, rest) = match rest {
                    ["namespaces", namespace, rest @ ..] if !rest.is_empty() => ((*namespace).to_owned(), rest),
                    rest => (String::new(), rest),
                };
                let call = Call {
                    method: parts.method.to_string(),
                    resource: rest[0].to_owned(),
                    namespace,
                    name: rest.get(1).map(|name| (*name).to_owned()),
                    query: parts.uri.query().unwrap_or_default().to_owned(),
                    body: serde_json::from_slice(&body).unwrap_or(Value::Null),
                };
                let (code, answer) = api.answer(call);
                let answer = http::Response::builder().status(code).body(Full::new(bytes::Bytes::from(answer.to_string()))).unwrap();
                Ok::<_, Infallible>(answer)
            }
        });
        kube::Client::new(service, "default")
    }
}

impl Source for TestApi {
    fn follow(&self, selection: Selection) -> BoxStream<'static, SourceEvent> {
        let changes = self.changes.subscribe();
        let prefix = format!("{}/", selection.resource);
        let bytes = |object: &Value| bytes::Bytes::from(object.to_string());
        let mut first = vec![SourceEvent::Restart];
        let state = self.state.lock();
        first.extend(
            state
                .objects
                .iter()
                .filter(|(key, _)| key.starts_with(&prefix))
                .map(|(_, object)| SourceEvent::Applied { cluster: ClusterName::root(), object: bytes(object) }),
        );
        first.push(SourceEvent::Listed);
        let later = tokio_stream::wrappers::BroadcastStream::new(changes).filter_map(move |change| {
            let (key, object, deleted) = change.expect("the test's backlog is long enough");
            let (cluster, object) = (ClusterName::root(), bytes::Bytes::from(object.to_string()));
            let event = if deleted { SourceEvent::Deleted { cluster, object } } else { SourceEvent::Applied { cluster, object } };
            std::future::ready(key.starts_with(&prefix).then_some(event))
        });
        futures::stream::iter(first).chain(later).boxed()
    }
}
