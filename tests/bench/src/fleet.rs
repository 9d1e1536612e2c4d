//! Fleet: thousands of nodes that are only objects, with heartbeats, and pods that run as soon as they are bound.
use crate::api::Api;
use crate::http1::request;
use anyhow::{Result, ensure};
use api_cache::{Listening, RemoteSource};
use api_client::{Clients, RemoteClients};
use api_meta::ClusterName;
use clock::{Clock, SystemClock};
use controller_kit::{Deletion, Kit, ObjectKey, Objects, Preconditions};
use futures::future::try_join_all;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{RwLock, RwLockWriteGuard, Semaphore, mpsc};
use tokio::task::JoinHandle;

const CONNECTIONS: usize = 32;
/// How many pods are looked after at once.
const AT_ONCE: usize = 64;
/// From one heartbeat of a node to its next; kubelets have 10 s, and a node is given up after 50 s.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Sends bodies to a path over several connections.
pub async fn post_all(api: &Api, path: &str, count: usize, body: impl Fn(usize) -> Value) -> Result<()> {
    let body = &body;
    let senders = (0..CONNECTIONS).map(|first| async move {
        let mut connection = api.connect().await?;
        for number in (first..count).step_by(CONNECTIONS) {
            let answer = connection.exchange(&request("POST", path, &serde_json::to_vec(&body(number))?)).await?;
            ensure!(answer.status == 201, "POST {path}: {}: {}", answer.status, String::from_utf8_lossy(&answer.body));
        }
        anyhow::Ok(())
    });
    try_join_all(senders).await?;
    Ok(())
}

pub fn node_name(number: usize) -> String {
    format!("node-{number}")
}

/// Registers so many nodes that are ready, as long as a [`Fleet`] says so.
pub async fn register(api: &Api, count: usize) -> Result<()> {
    post_all(api, "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases", count, |number| {
        json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": node_name(number), "namespace": "kube-node-lease" },
            "spec": { "holderIdentity": node_name(number), "leaseDurationSeconds": 40, "renewTime": "2026-01-01T00:00:00.000000Z" } })
    })
    .await?;
    post_all(api, "/api/v1/nodes", count, |number| {
        let name = node_name(number);
        let labels = json!({ "kubernetes.io/hostname": name, "topology.kubernetes.io/zone": format!("zone-{}", number % 3) });
        let resources = json!({ "cpu": "32", "memory": "64Gi", "pods": "110", "ephemeral-storage": "100Gi" });
        let ready = json!({ "type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": "2026-01-01T00:00:00Z" });
        json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": name, "labels": labels },
            "status": { "capacity": resources, "allocatable": resources, "conditions": [ready] } })
    })
    .await
}

/// What the agents of all these nodes do for the host cluster's pods, until dropped.
pub struct Fleet {
    _listening: Listening,
    working: [JoinHandle<()>; 2],
    beating: Arc<RwLock<()>>,
}

impl Fleet {
    pub async fn start(api: &Api, nodes: usize) -> Result<Self> {
        let tls = (*api.tls(&[])?).clone();
        let clients = Arc::new(RemoteClients::new(&format!("https://127.0.0.1:{}", api.server.port), tls)?);
        let source = RemoteSource::new(clients.cluster(&ClusterName::root()), false);
        let kit = Kit::new(clients, Arc::new(source), Arc::new(SystemClock));
        let pods = kit.objects::<Pod>();
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let _listening = pods.listen(move |change| {
            if change.new.as_ref().is_some_and(|pod| wants(pod).is_some()) {
                // Nobody receives any more only once all is over.
                let _ = sender.send(change.key.clone());
            }
        });
        let beating = Arc::new(RwLock::new(()));
        let hearts = tokio::spawn(beat(kit.objects::<Lease>(), nodes, beating.clone()));
        let looking = tokio::spawn(async move {
            let permits = Arc::new(Semaphore::new(AT_ONCE));
            while let Some(key) = receiver.recv().await {
                let permit = permits.clone().acquire_owned().await.expect("the semaphore is never closed");
                let pods = pods.clone();
                tokio::spawn(async move {
                    look_after(&pods, &key).await;
                    drop(permit);
                });
            }
        });
        Ok(Self { _listening, working: [hearts, looking], beating })
    }

    /// No heart beats until this is dropped. Which should not take longer than nodes are given.
    pub async fn at_rest(&self) -> RwLockWriteGuard<'_, ()> {
        self.beating.write().await
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.working.iter().for_each(JoinHandle::abort);
    }
}

/// All nodes' hearts, one after the other, evenly.
async fn beat(leases: Objects<Lease>, nodes: usize, beating: Arc<RwLock<()>>) {
    let began = SystemClock.instant();
    let each = HEARTBEAT / u32::try_from(nodes).unwrap_or(u32::MAX);
    for beat in 0.. {
        // Those that are late come all at once.
        tokio::time::sleep((each * beat).saturating_sub(SystemClock.instant() - began)).await;
        let beats = beating.clone().read_owned().await;
        let leases = leases.clone();
        tokio::spawn(async move {
            let key = ObjectKey::new(&ClusterName::root(), "kube-node-lease", &node_name(beat as usize % nodes));
            let renewed = json!({ "spec": { "renewTime": format!("{:.6}", SystemClock.now()) } });
            if let Err(error) = leases.patch(&key, "", &renewed, &Preconditions::default()).await {
                eprintln!("   {key}: {error}");
            }
            drop(beats);
        });
    }
}

enum Wants {
    Running,
    Gone,
}

fn wants(pod: &Pod) -> Option<Wants> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|node| !node.is_empty())?;
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    if pod.metadata.deletion_timestamp.is_some() {
        return Some(Wants::Gone);
    }
    (phase != Some("Running")).then_some(Wants::Running)
}

async fn look_after(pods: &Objects<Pod>, key: &ObjectKey) {
    let Some(pod) = pods.get(key) else { return };
    let done = match wants(&pod) {
        Some(Wants::Running) => {
            let ready = json!({ "type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z" });
            let status = json!({ "status": { "phase": "Running", "podIP": "10.1.2.3", "podIPs": [{ "ip": "10.1.2.3" }], "conditions": [ready] } });
            pods.patch(key, "/status", &status, &Preconditions::uid_of(&pod.metadata)).await.map(|_| ())
        }
        Some(Wants::Gone) => {
            let deletion = Deletion { preconditions: Preconditions::uid_of(&pod.metadata), grace_period_seconds: Some(0), propagation: None };
            pods.delete(key, &deletion).await
        }
        None => Ok(()),
    };
    if let Err(error) = done
        && !error.is_conflict()
        && !error.is_not_found()
    {
        eprintln!("   {key}: {error}");
    }
}
