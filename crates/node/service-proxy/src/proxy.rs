//! The proxy's runner: follows Services, EndpointSlices and the node's Pods, and keeps the kernel's rules as they ask.
use crate::apply::{apply, forget};
use crate::error::Error;
use crate::health_ports::{HealthPorts, health_port};
use crate::plan::{Rules, host_port_rules, service_rules};
use crate::ruleset::{Owner, Ruleset};
use crate::settings::ProxySettings;
use api_cache::{BalancerAddresses, Cache, Cached, Change, HostedClusters, ObjectKey, Selection, Source};
use api_meta::ClusterName;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::{Receiver, error::RecvError, error::TryRecvError};

const BY_SERVICE: &str = "service";
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(30);

struct Caches {
    services: Arc<Cache<Service>>,
    slices: Arc<Cache<EndpointSlice>>,
    pods: Arc<Cache<Pod>>,
    clusters: Option<Arc<HostedClusters>>,
    balancers: Arc<BalancerAddresses>,
}

/// Serves until `shutdown`, in the network namespace of the process. The rules stay when it ends, and serve on.
///
/// Rules of an earlier run work until all is known, and are replaced then in one transaction.
///
/// # Errors
/// Only for settings that can't be right. What the kernel refuses is logged and tried again.
pub async fn run(settings: ProxySettings, source: Arc<dyn Source>, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
    settings.check()?;
    tokio::pin!(shutdown);
    tokio::select! {
        () = &mut shutdown => {}
        () = serve(settings, &*source) => {}
    }
    Ok(())
}

async fn serve(settings: ProxySettings, source: &dyn Source) {
    let on_this_node = Selection { fields: Some(format!("spec.nodeName={}", settings.node_name)), ..Selection::of::<Pod>("pods") };
    let caches = Caches {
        services: Cache::start(source, Selection::of::<Service>("services"), &[]),
        slices: Cache::start(source, Selection::of::<EndpointSlice>("endpointslices"), &[(BY_SERVICE, service_of)]),
        pods: Cache::start(source, on_this_node, &[]),
        clusters: settings.virtual_cluster_cidr.map(|range| HostedClusters::start(source, range)),
        balancers: BalancerAddresses::start(source),
    };
    let mut balancers = caches.balancers.subscribe();
    let (mut services, mut slices, mut pods) = (caches.services.subscribe(), caches.slices.subscribe(), caches.pods.subscribe());
    let mut clusters = caches.clusters.as_ref().map(|clusters| clusters.subscribe());
    if let Some(clusters) = &caches.clusters {
        clusters.synced().await;
    }
    caches.balancers.synced().await;
    caches.services.synced().await;
    caches.slices.synced().await;
    caches.pods.synced().await;

    let table = settings.table.clone();
    let families = settings.by_family();
    let mut rulesets: Vec<Ruleset> = families.iter().cloned().map(Ruleset::new).collect();
    let mut dirty = everybody(&caches, &rulesets);
    let mut health_ports = HealthPorts::new(families.len() > 1);
    let (mut reload, mut retry) = (true, FIRST_RETRY);
    loop {
        for owner in std::mem::take(&mut dirty) {
            let mut local_endpoints = 0;
            for (settings, ruleset) in families.iter().zip(&mut rulesets) {
                let rules = rules_of(&owner, &caches, settings);
                local_endpoints = local_endpoints.max(rules.local_endpoints());
                ruleset.set(&owner, rules);
            }
            if let Owner::Service(key) = &owner {
                health_ports.set(key, caches.services.get(key).and_then(|service| health_port(&service)).map(|port| (port, local_endpoints)));
            }
        }
        let (mut script, mut forgotten) = (String::new(), Vec::new());
        for (settings, ruleset) in families.iter().zip(&mut rulesets) {
            if let Some((text, gone)) = if reload { Some(ruleset.reload()) } else { ruleset.commit() } {
                script.push_str(&text);
                forgotten.push((settings.family(), gone));
            }
        }
        if !script.is_empty() {
            match apply(&script).await {
                Ok(()) => {
                    if reload {
                        tracing::info!(table, "the rules of all services are in place");
                    }
                    (reload, retry) = (false, FIRST_RETRY);
                    for (family, forgotten) in forgotten {
                        if let Err(error) = forget(family, &table, forgotten).await {
                            tracing::warn!(%error, "flows to backends that are gone may go on");
                        }
                    }
                }
                // Somebody else changed our table: all is made anew.
                Err(error) if !reload => {
                    tracing::warn!(%error, "a change was refused; making all rules anew");
                    reload = true;
                    continue;
                }
                Err(error) => {
                    tracing::error!(%error, "the rules could not be put in place; trying again in {retry:?}");
                    tokio::time::sleep(retry).await;
                    retry = (retry * 2).min(LAST_RETRY);
                    continue;
                }
            }
        }
        // What comes while nft runs is taken together: under load transactions grow instead of queueing.
        let lost = tokio::select! {
            change = services.recv() => note(change, &mut dirty, of_service),
            change = slices.recv() => note(change, &mut dirty, of_slice),
            change = pods.recv() => note(change, &mut dirty, of_pod),
            change = next(&mut clusters) => match change {
                Ok(cluster) => { dirty.extend(all_of(&caches, &cluster)); false }
                Err(RecvError::Lagged(_) | RecvError::Closed) => true,
            },
            change = balancers.recv() => match change {
                Ok(service) => { dirty.insert(Owner::Service(service)); false }
                Err(RecvError::Lagged(_) | RecvError::Closed) => true,
            },
        };
        let lost = lost | drain(&mut services, &mut dirty, of_service) | drain(&mut slices, &mut dirty, of_slice) | drain(&mut pods, &mut dirty, of_pod);
        if lost {
            dirty.extend(everybody(&caches, &rulesets));
        }
    }
}

/// The next cluster whose number changed; never, where there are no virtual clusters.
async fn next(clusters: &mut Option<Receiver<ClusterName>>) -> Result<ClusterName, RecvError> {
    match clusters {
        Some(clusters) => clusters.recv().await,
        None => std::future::pending().await,
    }
}

fn all_of(caches: &Caches, cluster: &ClusterName) -> Vec<Owner> {
    let services = caches.services.list(cluster, None).into_iter().map(|service| Owner::Service(ObjectKey::of(cluster, &service.metadata)));
    let pods = caches.pods.list(cluster, None).into_iter().map(|pod| Owner::Pod(ObjectKey::of(cluster, &pod.metadata)));
    services.chain(pods).collect()
}

fn everybody(caches: &Caches, rulesets: &[Ruleset]) -> BTreeSet<Owner> {
    let services = caches.services.all().into_iter().map(|(key, _)| Owner::Service(key));
    let pods = caches.pods.all().into_iter().map(|(key, _)| Owner::Pod(key));
    services.chain(pods).chain(rulesets.iter().flat_map(Ruleset::owners).cloned()).collect()
}

fn rules_of(owner: &Owner, caches: &Caches, settings: &ProxySettings) -> Rules {
    let (Owner::Service(key) | Owner::Pod(key)) = owner;
    let number = match &caches.clusters {
        Some(clusters) => clusters.number_of(&key.cluster),
        None => key.cluster.is_root().then_some(0),
    };
    // A cluster without a number has no pod that could ask.
    let Some(number) = number else { return Rules::default() };
    match owner {
        Owner::Service(key) => {
            let Some(service) = caches.services.get(key) else { return Rules::default() };
            let slices = caches.slices.by_index(BY_SERVICE, &key.cluster, &format!("{}/{}", key.namespace, key.name));
            service_rules(number, &service, &slices, &caches.balancers.held_by(key).unwrap_or_default(), settings)
        }
        Owner::Pod(key) => caches.pods.get(key).map(|pod| host_port_rules(number, &pod, settings)).unwrap_or_default(),
    }
}

/// The Service a slice is of, for those a proxy shall look at.
fn service_of(slice: &EndpointSlice) -> Vec<String> {
    let labels = slice.metadata.labels.as_ref();
    let label = |key: &str| labels.and_then(|labels| labels.get(key));
    if label("service.kubernetes.io/service-proxy-name").is_some() {
        return Vec::new();
    }
    let namespace = slice.metadata.namespace.as_deref().unwrap_or_default();
    label("kubernetes.io/service-name").map(|name| format!("{namespace}/{name}")).into_iter().collect()
}

fn of_service(change: &Change<Service>) -> Vec<Owner> {
    vec![Owner::Service(change.key.clone())]
}

fn of_pod(change: &Change<Pod>) -> Vec<Owner> {
    vec![Owner::Pod(change.key.clone())]
}

fn of_slice(change: &Change<EndpointSlice>) -> Vec<Owner> {
    let names = change.old.iter().chain(&change.new).flat_map(|slice| service_of(slice));
    names.filter_map(|name| name.split_once('/').map(|(namespace, name)| Owner::Service(ObjectKey::new(&change.key.cluster, namespace, name)))).collect()
}

/// Notes whom a change concerns; says whether changes were lost.
fn note<K: Cached>(change: Result<Change<K>, RecvError>, dirty: &mut BTreeSet<Owner>, owners: fn(&Change<K>) -> Vec<Owner>) -> bool {
    match change {
        Ok(change) => {
            dirty.extend(owners(&change));
            false
        }
        // The cache is ours, so its sender lives as long as we do.
        Err(RecvError::Lagged(_) | RecvError::Closed) => true,
    }
}

fn drain<K: Cached>(changes: &mut Receiver<Change<K>>, dirty: &mut BTreeSet<Owner>, owners: fn(&Change<K>) -> Vec<Owner>) -> bool {
    let mut lost = false;
    loop {
        match changes.try_recv() {
            Ok(change) => dirty.extend(owners(&change)),
            Err(TryRecvError::Lagged(_)) => lost = true,
            Err(TryRecvError::Empty | TryRecvError::Closed) => return lost,
        }
    }
}
