//! The runner: follows policies, and pods and namespaces once there is a policy, and keeps the kernel's tables as they ask.
use super::network_policy::{Isolation, Policy};
use super::pods::{PodFacts, PolicyNamespace, PolicyPod};
use super::policies::Policies;
use super::tables::{Update, without_table};
use crate::{AddressFile, Error, nft};
use api_cache::{Cache, Cached, Change, Selection, Source};
use api_meta::{ClusterName, IpFamily};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::watch;

const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(30);

#[derive(Clone, Debug)]
pub struct PolicySettings {
    pub node_name: String,
    /// Where the pod network keeps its leases.
    pub state_dir: PathBuf,
    /// Pods have an IPv6 address besides.
    pub dual: bool,
}

/// What policies say of pods that are about to start.
#[derive(Clone, Debug)]
pub struct PolicyView {
    policies: Arc<Mutex<Policies>>,
    /// Policies are known, and the kernel holds them.
    ready: Arc<watch::Sender<bool>>,
}

impl Default for PolicyView {
    fn default() -> Self {
        Self { policies: Arc::default(), ready: Arc::new(watch::channel(false).0) }
    }
}

impl PolicyView {
    /// The directions in which a pod with these labels may only do what policies let it; `None` while that is not known.
    pub fn isolation_of(&self, cluster: &ClusterName, namespace: &str, labels: &BTreeMap<String, String>) -> Option<Isolation> {
        self.ready.borrow().then(|| self.policies.lock().expect("no holder of this lock panics").isolation_of(cluster, namespace, labels))
    }

    /// Waits until policies are known and in place.
    pub async fn ready(&self) {
        // The sender lives in self, so waiting can't fail.
        let _ = self.ready.subscribe().wait_for(|ready| *ready).await;
    }
}

/// Enforces policies until `shutdown`, in the network namespace of the process. What is in place then stays.
pub async fn run(settings: PolicySettings, view: PolicyView, source: Arc<dyn Source>, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
    tokio::pin!(shutdown);
    tokio::select! {
        () = &mut shutdown => {}
        () = follow(&settings, &view, &*source) => {}
    }
    Ok(())
}

/// Takes the tables away. None there is fine. Blocks; acts in the network namespace of the calling thread.
pub fn teardown(dual: bool) -> Result<(), Error> {
    nft::run(&IpFamily::all(dual).iter().map(|family| without_table(*family)).collect::<String>())
}

/// The kinds that decide; pods and namespaces are followed only where there are policies: most pods have none.
struct Caches {
    policies: Arc<Cache<NetworkPolicy>>,
    pods: Arc<Cache<PolicyPod>>,
    namespaces: Arc<Cache<PolicyNamespace>>,
}

/// What the caches tell from a moment on.
struct Told {
    policies: Receiver<Change<NetworkPolicy>>,
    pods: Receiver<Change<PolicyPod>>,
    namespaces: Receiver<Change<PolicyNamespace>>,
}

impl Caches {
    fn subscribe(&self) -> Told {
        Told { policies: self.policies.subscribe(), pods: self.pods.subscribe(), namespaces: self.namespaces.subscribe() }
    }
}

async fn follow(settings: &PolicySettings, view: &PolicyView, source: &dyn Source) {
    let policies: Arc<Cache<NetworkPolicy>> = Cache::start(source, Selection::of::<NetworkPolicy>("networkpolicies"), &[]);
    let mut policy_changes = policies.subscribe();
    policies.synced().await;
    if policies.is_empty() {
        // Those of an earlier run are gone.
        let dual = settings.dual;
        patiently(|| blocking(move || teardown(dual))).await;
        view.ready.send_replace(true);
        while policies.is_empty() {
            // Whatever it tells, what the cache holds now counts.
            let _ = policy_changes.recv().await;
        }
    }
    let caches = Caches {
        pods: Cache::start(source, Selection::of::<Pod>("pods"), &[]),
        namespaces: Cache::start(source, Selection::of::<Namespace>("namespaces"), &[]),
        policies,
    };
    caches.pods.synced().await;
    caches.namespaces.synced().await;
    loop {
        // First this: what changes while all is looked at is looked at again.
        let told = caches.subscribe();
        *view.policies.lock().expect("no holder of this lock panics") = everything(&caches, settings);
        patiently(|| reload(view.clone(), settings.state_dir.clone())).await;
        view.ready.send_replace(true);
        tracing::info!(policies = caches.policies.len(), "network policies are in place");
        if let Err(error) = changes(settings, view, told).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "a change of policies was refused; making all rules anew");
        }
    }
}

/// Takes changes to the kernel as they come; returns when all has to be looked at anew.
async fn changes(settings: &PolicySettings, view: &PolicyView, mut told: Told) -> Result<(), Error> {
    let pod_facts = |state: &mut Policies, change: Change<PolicyPod>| state.set_pod(&change.key, facts(change.new.as_deref(), settings));
    let namespace_labels = |state: &mut Policies, change: Change<PolicyNamespace>| state.set_namespace(&change.key, change.new.as_deref().map(labels));
    let policy = |state: &mut Policies, change: Change<NetworkPolicy>| state.set_policy(&change.key, change.new.as_deref().map(Policy::of));
    loop {
        // What comes while nft runs is taken together: under load transactions grow instead of queueing.
        let known = tokio::select! {
            change = told.policies.recv() => note(view, change, policy),
            change = told.pods.recv() => note(view, change, pod_facts),
            change = told.namespaces.recv() => note(view, change, namespace_labels),
        };
        let known = known && drain(view, &mut told.policies, policy) && drain(view, &mut told.pods, pod_facts);
        if !(known && drain(view, &mut told.namespaces, namespace_labels)) {
            return Ok(());
        }
        let update = view.policies.lock().expect("no holder of this lock panics").commit();
        if let Some(update) = update {
            apply(update).await?;
        }
    }
}

/// Takes a change in; `false` when changes were lost.
fn note<K: Cached>(view: &PolicyView, change: Result<Change<K>, RecvError>, take: impl Fn(&mut Policies, Change<K>)) -> bool {
    let Ok(change) = change else { return false };
    take(&mut view.policies.lock().expect("no holder of this lock panics"), change);
    true
}

fn drain<K: Cached>(view: &PolicyView, changes: &mut Receiver<Change<K>>, take: impl Fn(&mut Policies, Change<K>)) -> bool {
    let mut state = view.policies.lock().expect("no holder of this lock panics");
    loop {
        match changes.try_recv() {
            Ok(change) => take(&mut state, change),
            Err(TryRecvError::Empty) => return true,
            Err(TryRecvError::Lagged(_) | TryRecvError::Closed) => return false,
        }
    }
}

fn everything(caches: &Caches, settings: &PolicySettings) -> Policies {
    let mut state = Policies::of(IpFamily::all(settings.dual));
    for (key, namespace) in caches.namespaces.all() {
        state.set_namespace(&key, Some(labels(&namespace)));
    }
    for (key, pod) in caches.pods.all() {
        state.set_pod(&key, facts(Some(&pod), settings));
    }
    for (key, policy) in caches.policies.all() {
        state.set_policy(&key, Some(Policy::of(&policy)));
    }
    state
}

fn facts(pod: Option<&PolicyPod>, settings: &PolicySettings) -> Option<PodFacts> {
    pod.and_then(|pod| PodFacts::of(pod, &settings.node_name))
}

fn labels(namespace: &PolicyNamespace) -> BTreeMap<String, String> {
    k8s_openapi::Metadata::metadata(namespace).labels.clone().unwrap_or_default()
}

async fn apply(update: Update) -> Result<(), Error> {
    blocking(move || {
        if !update.script.is_empty() {
            nft::run(&update.script)?;
        }
        if update.cleaning.is_empty() { Ok(()) } else { nft::run(&update.cleaning) }
    })
    .await
}

/// Makes all tables anew.
async fn reload(view: PolicyView, state_dir: PathBuf) -> Result<(), Error> {
    let leases = blocking(move || AddressFile::new(&state_dir).read()).await?;
    let update = {
        let mut policies = view.policies.lock().expect("no holder of this lock panics");
        let known = policies.local_addresses();
        // Which pod a lease is for is told by its status; until then the worst is supposed.
        let unknown = leases.ports().flat_map(|(addresses, _)| addresses.iter()).filter(|address| !known.contains(address));
        policies.reload(&unknown.map(|address| (address, Isolation { ingress: true, egress: true })).collect())
    };
    apply(update).await
}

/// Tries until it works: nothing can be let through meanwhile that was not before.
async fn patiently<F: Future<Output = Result<(), Error>>>(mut attempt: impl FnMut() -> F) {
    let mut retry = FIRST_RETRY;
    while let Err(error) = attempt().await {
        tracing::error!(error = &error as &dyn std::error::Error, "network policies could not be put in place; trying again in {retry:?}");
        tokio::time::sleep(retry).await;
        retry = (retry * 2).min(LAST_RETRY);
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}
