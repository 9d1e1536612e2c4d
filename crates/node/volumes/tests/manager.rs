//! VolumeManager over real mounts and files, with a small API that serves what the test puts into it.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use api_client::Clients;
use api_meta::ClusterName;
use bytes::Bytes;
use clock::{Clock, ManualClock};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast;
use volumes::{NodeFacts, VolumeManager};

/// An API with those paths that volumes need.
#[derive(Clone)]
struct Api {
    state: Arc<Mutex<State>>,
    events: broadcast::Sender<(String, Value)>,
    clock: ManualClock,
}

#[derive(Default)]
struct State {
    /// By their path.
    objects: BTreeMap<String, Value>,
    revision: u64,
    tokens: u64,
}

type Body = UnsyncBoxBody<Bytes, Infallible>;

impl Api {
    fn new() -> Self {
        let clock = ManualClock::at("2026-01-01T00:00:00Z".parse::<Timestamp>().unwrap());
        Self { state: Arc::default(), events: broadcast::channel(64).0, clock }
    }

    fn put(&self, path: &str, mut object: Value) {
        let mut state = self.state.lock();
        state.revision += 1;
        object["metadata"]["resourceVersion"] = json!(state.revision.to_string());
        object["metadata"]["name"] = json!(path.rsplit('/').next().unwrap());
        let kind = if state.objects.insert(path.into(), object.clone()).is_some() { "MODIFIED" } else { "ADDED" };
        // An error only says that nobody watches.
        let _ = self.events.send((path.into(), json!({"type": kind, "object": object})));
    }

    fn answer(&self, request: &Request<kube::client::Body>) -> Response<Body> {
        let reply = |code: u16, value: Value| Response::builder().status(code).body(full(&value)).unwrap();
        let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
        let not_found =
            || reply(404, json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "not found", "reason": "NotFound", "code": 404}));
        if path.ends_with("/token") {
            let mut state = self.state.lock();
            state.tokens += 1;
            let expires = self.clock.now() + jiff::SignedDuration::from_secs(600);
            return reply(
                201,
                json!({"metadata": {}, "spec": {"audiences": [], "expirationSeconds": 600}, "status": {"token": format!("token-{}", state.tokens), "expirationTimestamp": expires.to_string()}}),
            );
        }
        let Some((_, name)) = query.split_once("metadata.name%3D") else {
            return self.state.lock().objects.get(path).map_or_else(not_found, |object| reply(200, object.clone()));
        };
        let full_path = format!("{path}/{}", name.split('&').next().unwrap());
        if query.contains("watch=") || query.contains("timeoutSeconds") {
            let mut events = self.events.subscribe();
            let missed: Vec<Value> = {
                let since: u64 = query.split("resourceVersion=").nth(1).unwrap().split('&').next().unwrap().parse().unwrap();
                let state = self.state.lock();
                let object = state.objects.get(&full_path).cloned();
                object.filter(|o| o["metadata"]["resourceVersion"].as_str().unwrap().parse::<u64>().unwrap() > since).into_iter().collect()
            };
            let (sender, receiver) = futures::channel::mpsc::unbounded();
            for object in missed {
                sender.unbounded_send(line(&json!({"type": "MODIFIED", "object": object}))).unwrap();
            }
            tokio::spawn(async move {
                while let Ok((path, event)) = events.recv().await {
                    if path == full_path && sender.unbounded_send(line(&event)).is_err() {
                        return;
                    }
                }
            });
            return Response::new(BodyExt::boxed_unsync(StreamBody::new(receiver)));
        }
        let state = self.state.lock();
        let items: Vec<Value> = state.objects.get(&full_path).cloned().into_iter().collect();
        reply(200, json!({"metadata": {"resourceVersion": state.revision.to_string()}, "items": items}))
    }
}

fn line(event: &Value) -> Result<Frame<Bytes>, Infallible> {
    Ok(Frame::data(Bytes::from(format!("{event}\n"))))
}

fn full(value: &Value) -> Body {
    Full::new(Bytes::from(value.to_string())).boxed_unsync()
}

impl Clients for Api {
    fn cluster(&self, _: &ClusterName) -> kube::Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let api = api.clone();
            async move { Ok::<_, Infallible>(api.answer(&request)) }
        });
        kube::Client::new(service, "default")
    }
}

struct Stand {
    api: Api,
    manager: Arc<VolumeManager>,
    root: tempfile::TempDir,
    facts: NodeFacts,
}

impl Stand {
    fn new() -> Self {
        let (api, root) = (Api::new(), tempfile::tempdir().unwrap());
        let manager = VolumeManager::new(root.path(), Arc::new(api.clone()), Arc::new(api.clock.clone())).unwrap();
        Self { api, manager, root, facts: NodeFacts { allocatable: BTreeMap::from([("memory".into(), Quantity("1Gi".into()))]) } }
    }

    async fn mount(&self, pod: &Pod) -> Result<BTreeMap<String, volumes::MountedVolume>, String> {
        self.manager.mount(&ClusterName::root(), pod, &self.facts).await.map_err(|e| e.to_string())
    }

    async fn unmount(&self) {
        self.manager.unmount(&ClusterName::root(), "uid-1").await.unwrap();
        assert!(self.manager.pods_on_disk().unwrap().is_empty());
        let real = self.root.path().canonicalize().unwrap();
        assert!(!fs::read_to_string("/proc/self/mountinfo").unwrap().contains(real.to_str().unwrap()));
    }
}

fn pod(volumes: Value, security: Value) -> Pod {
    let mounts: Vec<Value> =
        volumes.as_array().unwrap().iter().map(|v| json!({"name": v["name"], "mountPath": format!("/{}", v["name"].as_str().unwrap())})).collect();
    serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "default", "uid": "uid-1", "labels": {"app": "x"}},
        "spec": {"containers": [{"name": "c", "volumeMounts": mounts}], "volumes": volumes, "securityContext": security}
    }))
    .unwrap()
}

async fn eventually(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..500 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not in time: {what}");
}

#[tokio::test]
async fn contents_follow_their_objects() {
    let stand = Stand::new();
    let config_map = "/api/v1/namespaces/default/configmaps/settings";
    stand.api.put(config_map, json!({"metadata": {}, "data": {"a": "1", "b": "2"}}));
    let pod = pod(
        json!([{"name": "v", "configMap": {"name": "settings"}}, {"name": "later", "secret": {"secretName": "s", "optional": true, "defaultMode": 256}}]),
        json!({}),
    );
    let mounted = stand.mount(&pod).await.unwrap();
    let file = mounted["v"].host_path.join("a");
    assert_eq!(mounted["v"].host_path, stand.root.path().canonicalize().unwrap().join("pods/uid-1/volumes/kubernetes.io~configmap/v"));
    assert!(mounted["v"].read_only);
    assert_eq!(fs::read_to_string(&file).unwrap(), "1");
    stand.api.put(config_map, json!({"metadata": {}, "data": {"a": "9"}}));
    eventually("the new value", || fs::read_to_string(&file).is_ok_and(|v| v == "9") && !mounted["v"].host_path.join("b").exists()).await;
    stand.api.put("/api/v1/namespaces/default/secrets/s", json!({"metadata": {}, "data": {"k": "dg=="}}));
    let secret = mounted["later"].host_path.join("k");
    eventually("the secret that came late", || fs::read_to_string(&secret).is_ok_and(|v| v == "v")).await;
    assert_eq!(fs::metadata(&secret).unwrap().mode() & 0o777, 0o400);
    stand.unmount().await;
}

#[tokio::test]
async fn a_missing_object_fails_in_upstreams_words_until_it_appears() {
    let stand = Stand::new();
    let mut changes = stand.manager.changes();
    let pod = pod(json!([{"name": "v", "configMap": {"name": "settings"}}, {"name": "e", "emptyDir": {}}]), json!({}));
    assert_eq!(stand.mount(&pod).await.unwrap_err(), "MountVolume.SetUp failed for volume \"v\" : configmap \"settings\" not found");
    while changes.try_recv().is_ok() {}
    stand.api.put("/api/v1/namespaces/default/configmaps/settings", json!({"metadata": {}, "data": {"a": "1"}}));
    let changed = tokio::time::timeout(Duration::from_secs(5), changes.recv()).await.unwrap().unwrap();
    assert_eq!(changed, (ClusterName::root(), "uid-1".to_owned()));
    assert_eq!(stand.mount(&pod).await.unwrap().len(), 2);
    stand.unmount().await;
}

#[tokio::test]
async fn projected_tokens_are_owned_and_renewed() {
    let stand = Stand::new();
    stand.api.put("/api/v1/namespaces/default/configmaps/kube-root-ca.crt", json!({"metadata": {}, "data": {"ca.crt": "CA"}}));
    let projected = json!([{"name": "t", "projected": {"defaultMode": 420, "sources": [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 600}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}, {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}}]}}]);
    let mut pod = pod(projected, json!({"runAsUser": 1234, "fsGroup": 4321}));
    let directory = stand.mount(&pod).await.unwrap()["t"].host_path.clone();
    let token = directory.join("token");
    let metadata = fs::metadata(&token).unwrap();
    assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o777), (1234, 4321, 0o640));
    assert_eq!(fs::read_to_string(directory.join("ca.crt")).unwrap(), "CA");
    assert_eq!(fs::read_to_string(directory.join("namespace")).unwrap(), "default");
    pod.metadata.labels = Some(BTreeMap::from([("app".to_owned(), "y".to_owned())]));
    stand.mount(&pod).await.unwrap();
    assert_eq!(fs::read_to_string(directory.join("labels")).unwrap(), "app=\"y\"");
    assert_eq!(fs::read_to_string(&token).unwrap(), "token-1");
    stand.api.clock.advance(Duration::from_secs(500));
    // Any change wakes the keeper, which then sees what is due.
    stand.api.put("/api/v1/namespaces/default/configmaps/kube-root-ca.crt", json!({"metadata": {}, "data": {"ca.crt": "CA2"}}));
    eventually("the next token", || fs::read_to_string(&token).is_ok_and(|t| t == "token-2")).await;
    stand.unmount().await;
}

#[tokio::test]
async fn empty_dirs_belong_to_the_group_and_memory_is_bounded() {
    let stand = Stand::new();
    let pod = pod(json!([{"name": "d", "emptyDir": {}}, {"name": "m", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}]), json!({"fsGroup": 4321}));
    let mounted = stand.mount(&pod).await.unwrap();
    let metadata = fs::metadata(&mounted["d"].host_path).unwrap();
    assert_eq!((metadata.gid(), metadata.mode() & 0o7777), (4321, 0o2777));
    let memory = &mounted["m"].host_path;
    assert!(fs::write(memory.join("too-much"), vec![0; 2 << 20]).is_err());
    fs::write(mounted["d"].host_path.join("kept"), "").unwrap();
    assert_eq!(stand.mount(&pod).await.unwrap(), mounted);
    assert!(mounted["d"].host_path.join("kept").exists());
    let sub = stand.manager.sub_path("uid-1", ("d", &mounted["d"]), "c", 0, "data/x").await.unwrap();
    fs::write(sub.join("file"), "").unwrap();
    assert!(mounted["d"].host_path.join("data/x/file").exists());
    stand.unmount().await;
}

#[tokio::test]
async fn claims_lead_to_their_bound_volumes() {
    let stand = Stand::new();
    let data = tempfile::tempdir().unwrap();
    let claim = "/api/v1/namespaces/default/persistentvolumeclaims/data";
    let pod = pod(json!([{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]), json!({}));
    let prefix =
        "Unable to attach or mount volumes: unmounted volumes=[v], unattached volumes=[], failed to process volumes=[v]: error processing PVC default/data";
    assert!(stand.mount(&pod).await.unwrap_err().starts_with(&format!("{prefix}: failed to fetch PVC from API server")));
    stand.api.put(claim, json!({"metadata": {"uid": "claim-1"}, "spec": {"volumeName": "pv"}, "status": {"phase": "Pending"}}));
    assert_eq!(stand.mount(&pod).await.unwrap_err(), format!("{prefix}: PVC is not bound"));
    stand.api.put(claim, json!({"metadata": {"uid": "claim-1"}, "spec": {"volumeName": "pv"}, "status": {"phase": "Bound"}}));
    let volume = |source: Value| {
        let mut spec = json!({"claimRef": {"uid": "claim-1"}});
        spec.as_object_mut().unwrap().extend(source.as_object().unwrap().clone());
        json!({"metadata": {}, "spec": spec})
    };
    stand.api.put("/api/v1/persistentvolumes/pv", volume(json!({"csi": {"driver": "stor.example", "volumeHandle": "h"}})));
    assert!(stand.mount(&pod).await.unwrap_err().ends_with("driver name stor.example not found in the list of registered CSI drivers"));
    stand.api.put("/api/v1/persistentvolumes/pv", volume(json!({"local": {"path": data.path()}})));
    assert_eq!(stand.mount(&pod).await.unwrap()["v"].host_path, data.path());
    fs::write(data.path().join("precious"), "").unwrap();
    stand.unmount().await;
    assert!(data.path().join("precious").exists());
}

#[tokio::test]
async fn what_no_plugin_serves_is_refused_and_what_no_container_uses_is_left_alone() {
    let stand = Stand::new();
    let mut pod = pod(json!([{"name": "n", "nfs": {"server": "s", "path": "/"}}]), json!({}));
    let message = stand.mount(&pod).await.unwrap_err();
    assert!(message.ends_with("failed to get Plugin from volumeSpec for volume \"n\" err=no volume plugin matched"), "{message}");
    pod.spec.as_mut().unwrap().containers[0].volume_mounts = None;
    assert!(stand.mount(&pod).await.unwrap().is_empty());
    pod.metadata.uid = Some("../x".into());
    assert!(stand.mount(&pod).await.is_ok(), "no volume, no directory");
    assert!(stand.manager.unmount(&ClusterName::root(), "../x").await.is_err());
    stand.unmount().await;
}
