//! FiberLB's part on a node: follows what was given and who serves, and keeps engine and network as the plan says.
use crate::engine::Engine;
use crate::ingress_plan::is_ours;
use crate::neighbours::{self, Neighbours};
use crate::node_network::NodeNetwork;
use crate::plan::{NodePlan, View, is_candidate, plan};
use crate::{Error, NodeSettings, tls};
use api_cache::{BalancerAddresses, Cache, HostedClusters, Listening, ObjectKey, Selection, Source};
use api_meta::ClusterName;
use clock::Clock;
use k8s_openapi::api::core::v1::{Node, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use parking_lot::{Mutex, RwLock};
use rustls::sign::CertifiedKey;
use std::collections::{BTreeSet, HashMap};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

const BY_SERVICE: &str = "service";
/// Changes that come together are taken together.
const GATHER: Duration = Duration::from_millis(10);
/// How long certificates are waited for before the rest is served.
const SECRETS_SOON: Duration = Duration::from_secs(2);
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LAST_RETRY: Duration = Duration::from_secs(30);

/// Certificates by Secret, with the Secret's version they are of; `None` is one that can't be used.
type Parsed = HashMap<ObjectKey, (Option<String>, Option<Arc<CertifiedKey>>)>;

struct Caches {
    services: Arc<Cache<Service>>,
    slices: Arc<Cache<EndpointSlice>>,
    ingresses: Arc<Cache<Ingress>>,
    classes: Arc<Cache<IngressClass>>,
    /// Each for as long as a plan names it: a node on another machine may read these alone.
    secrets: Mutex<HashMap<ObjectKey, FollowedSecret>>,
    nodes: Arc<Cache<Node>>,
    clusters: Option<Arc<HostedClusters>>,
    balancers: Arc<BalancerAddresses>,
    parsed: Mutex<Parsed>,
    /// Nodes that count as ready, whose machines can't be reached.
    gone: Mutex<BTreeSet<String>>,
    /// Others are since the last announcements: who was apart may have announced what is ours.
    parted: AtomicBool,
}

struct FollowedSecret {
    cache: Arc<Cache<Secret>>,
    _listening: Listening,
}

/// What the plan now in force looks at; changes of other Services wake nobody.
#[derive(Default)]
struct Watched {
    services: BTreeSet<ObjectKey>,
}

/// Serves until `shutdown`, in the network namespace of the process. Addresses and rules stay when it ends, as pods do;
/// [`teardown`](crate::teardown) takes them away.
pub async fn run(settings: NodeSettings, source: Arc<dyn Source>, clock: Arc<dyn Clock>, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
    let mut engine = Engine::new(clock);
    tokio::pin!(shutdown);
    tokio::select! {
        () = &mut shutdown => {}
        () = follow(&settings, &source, &mut engine) => {}
    }
    engine.stop().await;
    Ok(())
}

async fn follow(settings: &NodeSettings, source: &Arc<dyn Source>, engine: &mut Engine) {
    let caches = Caches::start(settings, &**source);
    let (wake, watched) = (Arc::new(Notify::new()), Arc::new(RwLock::new(Watched::default())));
    let _listening = caches.listen(&wake, &watched);
    let followers = caches.follow_rest(&wake);
    caches.synced().await;
    let mut network = NodeNetwork::new(settings.clone());
    let mut retry = FIRST_RETRY;
    let work = async {
        loop {
            let plan = caches.plan(settings);
            let grew = {
                let mut watched = watched.write();
                let grew = !plan.services.is_subset(&watched.services);
                *watched = Watched { services: plan.services.clone() };
                grew
            };
            if caches.follow_secrets(&**source, &plan.secrets, &wake).await || grew {
                // What changed before it was watched was not told.
                continue;
            }
            if apply(&mut network, engine, &plan).await {
                if caches.parted.swap(false, Ordering::Relaxed) {
                    network.announce_all();
                }
                retry = FIRST_RETRY;
                wake.notified().await;
            } else {
                tokio::select! {
                    () = wake.notified() => {}
                    () = tokio::time::sleep(retry) => {}
                }
                retry = (retry * 2).min(LAST_RETRY);
            }
            tokio::time::sleep(GATHER).await;
        }
    };
    tokio::select! {
        () = work => {}
        () = followers => {}
        () = caches.look_at_neighbours(settings, &wake) => {}
    }
}

/// Puts a plan in force; says whether all of it is.
async fn apply(network: &mut NodeNetwork, engine: &mut Engine, plan: &NodePlan) -> bool {
    let mut errors = Vec::new();
    errors.extend(network.add(&plan.doors()).await.err());
    errors.extend(engine.apply(&plan.configuration).await);
    errors.extend(network.retain(&plan.addresses).await.err());
    for error in &errors {
        tracing::warn!(error = error as &dyn std::error::Error, "not all load balancers could be put in place; trying again");
    }
    errors.is_empty()
}

impl Caches {
    fn start(settings: &NodeSettings, source: &dyn Source) -> Self {
        let host = Selection { cluster: Some(ClusterName::root()), ..Selection::of::<Node>("nodes") };
        Self {
            services: Cache::start(source, Selection::of::<Service>("services"), &[]),
            slices: Cache::start(source, Selection::of::<EndpointSlice>("endpointslices"), &[(BY_SERVICE, service_of)]),
            ingresses: Cache::start(source, Selection::of::<Ingress>("ingresses"), &[]),
            classes: Cache::start(source, Selection::of::<IngressClass>("ingressclasses"), &[]),
            secrets: Mutex::default(),
            nodes: Cache::start(source, host, &[]),
            clusters: settings.virtual_cluster_cidr.map(|range| HostedClusters::start(source, range)),
            balancers: BalancerAddresses::start(source),
            parsed: Mutex::default(),
            gone: Mutex::default(),
            parted: AtomicBool::new(false),
        }
    }

    async fn synced(&self) {
        self.services.synced().await;
        self.slices.synced().await;
        self.ingresses.synced().await;
        self.classes.synced().await;
        self.nodes.synced().await;
        self.balancers.synced().await;
        if let Some(clusters) = &self.clusters {
            clusters.synced().await;
        }
    }

    /// Wakes for every change that may matter.
    fn listen(&self, wake: &Arc<Notify>, watched: &Arc<RwLock<Watched>>) -> Vec<Listening> {
        let service = {
            let (wake, watched) = (wake.clone(), watched.clone());
            move |key: &ObjectKey| {
                if watched.read().services.contains(key) {
                    wake.notify_one();
                }
            }
        };
        let of_slice = service.clone();
        let always = || {
            let wake = wake.clone();
            move || wake.notify_one()
        };
        let (ingress, class, node) = (always(), always(), always());
        vec![
            self.services.listen(move |change| service(&change.key)),
            self.slices.listen(move |change| {
                let names = change.old.iter().chain(&change.new).flat_map(|slice| service_of(slice));
                for name in names {
                    if let Some((namespace, name)) = name.split_once('/') {
                        of_slice(&ObjectKey::new(&change.key.cluster, namespace, name));
                    }
                }
            }),
            self.ingresses.listen(move |change| {
                let spec = |ingress: &Option<Arc<Ingress>>| ingress.as_ref().map(|ingress| (ingress.spec.clone(), ingress.metadata.annotations.clone()));
                if spec(&change.old) != spec(&change.new) || change.new.as_ref().is_some_and(|new| new.metadata.deletion_timestamp.is_some()) {
                    ingress();
                }
            }),
            self.classes.listen(move |_| class()),
            self.nodes.listen(move |change| {
                if change.old.as_deref().is_some_and(is_candidate) != change.new.as_deref().is_some_and(is_candidate) {
                    node();
                }
            }),
        ]
    }

    /// Follows these Secrets and no others. Says whether some are new; what they hold is known then, if it is soon.
    async fn follow_secrets(&self, source: &dyn Source, wanted: &BTreeSet<ObjectKey>, wake: &Arc<Notify>) -> bool {
        let new: Vec<Arc<Cache<Secret>>> = {
            let mut secrets = self.secrets.lock();
            secrets.retain(|key, _| wanted.contains(key));
            let missing: Vec<&ObjectKey> = wanted.iter().filter(|key| !secrets.contains_key(*key)).collect();
            let follow = |key: &ObjectKey| {
                let selection = Selection {
                    cluster: Some(key.cluster.clone()),
                    namespace: Some(key.namespace.to_string()),
                    fields: Some(format!("metadata.name={}", key.name)),
                    ..Selection::of::<Secret>("secrets")
                };
                let (cache, wake) = (Cache::start(source, selection, &[]), wake.clone());
                let listening = cache.listen(move |_| wake.notify_one());
                secrets.insert(key.clone(), FollowedSecret { cache: cache.clone(), _listening: listening });
                cache
            };
            missing.into_iter().map(follow).collect()
        };
        // One that can't be read yet must not keep the others waiting; it wakes when it can.
        let known = futures::future::join_all(new.iter().map(|cache| cache.synced()));
        if tokio::time::timeout(SECRETS_SOON, known).await.is_err() {
            tracing::warn!("some certificates of Ingresses are not known yet; those that are are served");
        }
        !new.is_empty()
    }

    /// Wakes for changes of the ledger and of clusters' numbers; never ends.
    fn follow_rest(&self, wake: &Arc<Notify>) -> impl Future<Output = ()> + use<> {
        let mut balancers = self.balancers.whole_changes();
        let mut clusters = self.clusters.as_ref().map(|clusters| clusters.subscribe());
        let wake = wake.clone();
        async move {
            loop {
                // A message that was lost is a change too.
                tokio::select! {
                    changed = balancers.changed() => if changed.is_err() { return },
                    _ = async { match &mut clusters { Some(clusters) => clusters.recv().await.is_ok(), None => std::future::pending().await } } => {}
                }
                wake.notify_one();
            }
        }
    }

    /// Looks at the other nodes that may answer for addresses, and wakes when one is gone or back; never ends.
    async fn look_at_neighbours(&self, settings: &NodeSettings, wake: &Notify) {
        if settings.pool.is_empty() {
            return std::future::pending().await;
        }
        let mut neighbours = Neighbours::default();
        loop {
            tokio::time::sleep(neighbours::EVERY).await;
            let others = self.nodes.all().into_iter().filter(|(key, node)| *key.name != *settings.node_name && is_candidate(node));
            let looks = others.filter_map(|(key, node)| Some((key.name.to_string(), address_of(&node)?)));
            let looks = looks.map(async |(name, address)| (name, neighbours::answers(address).await));
            if neighbours.note(&futures::future::join_all(looks).await.into_iter().collect()) {
                let gone = neighbours.gone();
                tracing::info!(?gone, "machines of the pool's addresses that can't be reached");
                *self.gone.lock() = gone;
                self.parted.store(true, Ordering::Relaxed);
                wake.notify_one();
            }
        }
    }

    fn plan(&self, settings: &NodeSettings) -> NodePlan {
        let mut nodes: BTreeSet<String> = self.nodes.all().into_iter().filter(|(_, node)| is_candidate(node)).map(|(key, _)| key.name.to_string()).collect();
        nodes.retain(|name| !self.gone.lock().contains(name));
        let ingresses: Vec<_> =
            self.ingresses.all().into_iter().filter(|(key, ingress)| is_ours(ingress, |class| controller_of(&self.classes, key, class))).collect();
        let plan = plan(settings, &self.balancers.ledger(), &nodes, &ingresses, self);
        self.parsed.lock().retain(|key, _| plan.secrets.contains(key));
        plan
    }
}

/// The IPv4 address of a node on its network.
fn address_of(node: &Node) -> Option<Ipv4Addr> {
    let addresses = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
    addresses.filter(|address| address.type_ == "InternalIP").find_map(|address| address.address.parse().ok())
}

/// The controller of a class as the ingress's cluster has it.
pub(crate) fn controller_of(classes: &Cache<IngressClass>, ingress: &ObjectKey, class: &str) -> Option<String> {
    classes.get(&ObjectKey::new(&ingress.cluster, "", class)).and_then(|class| class.spec.as_ref()?.controller.clone())
}

impl View for Caches {
    fn service(&self, key: &ObjectKey) -> Option<Arc<Service>> {
        self.services.get(key)
    }
    fn slices(&self, service: &ObjectKey) -> Vec<Arc<EndpointSlice>> {
        self.slices.by_index(BY_SERVICE, &service.cluster, &format!("{}/{}", service.namespace, service.name))
    }
    fn certificate(&self, secret: &ObjectKey) -> Option<Arc<CertifiedKey>> {
        let object = self.secrets.lock().get(secret)?.cache.get(secret).filter(|object| object.type_.as_deref() == Some("kubernetes.io/tls"))?;
        let mut parsed = self.parsed.lock();
        if let Some((version, certificate)) = parsed.get(secret)
            && *version == object.metadata.resource_version
        {
            return certificate.clone();
        }
        let part = |name: &str| object.data.as_ref().and_then(|data| data.get(name)).map(|bytes| bytes.0.as_slice()).unwrap_or_default();
        let certificate = match tls::certified_key(part("tls.crt"), part("tls.key"), &pki::provider()) {
            Ok(certificate) => Some(Arc::new(certificate)),
            Err(error) => {
                tracing::warn!(%secret, %error, "a Secret's certificate is not served");
                None
            }
        };
        parsed.insert(secret.clone(), (object.metadata.resource_version.clone(), certificate.clone()));
        certificate
    }
    fn number(&self, cluster: &ClusterName) -> Option<u16> {
        match &self.clusters {
            Some(clusters) => clusters.number_of(cluster),
            None => cluster.is_root().then_some(0),
        }
    }
}

/// The Service a slice is of.
fn service_of(slice: &EndpointSlice) -> Vec<String> {
    let namespace = slice.metadata.namespace.as_deref().unwrap_or_default();
    let name = slice.metadata.labels.as_ref().and_then(|labels| labels.get("kubernetes.io/service-name"));
    name.map(|name| format!("{namespace}/{name}")).into_iter().collect()
}
