//! Kit: what every controller shares: clients, one cache a kind, the clock.
use crate::{Kind, Objects, Recorder};
use api_cache::{Cache, Selection, Source};
use api_client::Clients;
use api_meta::ClusterName;
use clock::Clock;
use jiff::Timestamp;
use parking_lot::Mutex;
use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::Arc;

/// A cache for each kind and field selector.
type Caches = HashMap<(TypeId, Option<String>), Arc<dyn Any + Send + Sync>>;

struct Shared {
    source: Arc<dyn Source>,
    clock: Arc<dyn Clock>,
    caches: Mutex<Caches>,
}

/// Cheap to clone. Give the same kit to everything in a process, so that a kind is cached once.
/// Must be used inside a tokio runtime.
#[derive(Clone)]
pub struct Kit {
    shared: Arc<Shared>,
    clients: Arc<dyn Clients>,
    manager: &'static str,
}

impl Kit {
    pub fn new(clients: Arc<dyn Clients>, source: Arc<dyn Source>, clock: Arc<dyn Clock>) -> Self {
        Self { shared: Arc::new(Shared { source, clock, caches: Mutex::default() }), clients, manager: "kube-controller-manager" }
    }

    /// The same kit, writing as another field manager.
    #[must_use]
    pub fn managed_by(&self, manager: &'static str) -> Self {
        Self { manager, ..self.clone() }
    }

    /// The same caches for a component that writes in a name of its own.
    #[must_use]
    pub fn acting_by(&self, clients: Arc<dyn Clients>) -> Self {
        Self { clients, ..self.clone() }
    }

    /// All objects of a kind, in all clusters.
    pub fn objects<K: Kind>(&self) -> Objects<K> {
        self.cached(None)
    }

    /// The same for who only reads.
    pub fn cache<K: Kind>(&self) -> Arc<Cache<K>> {
        (*self.objects()).clone()
    }

    /// Only the objects a field selector takes, e.g. `metadata.name=kube-root-ca.crt`.
    pub fn selected<K: Kind>(&self, fields: &str) -> Objects<K> {
        self.cached(Some(fields.to_owned()))
    }

    /// One kind's objects in one cluster, and of these only what a field selector takes. Not shared: keep it.
    pub fn of_cluster<K: Kind>(&self, cluster: &ClusterName, fields: Option<&str>) -> Objects<K> {
        let selection = Selection { cluster: Some(cluster.clone()), fields: fields.map(str::to_owned), ..Selection::of::<K>(K::URL_PATH_SEGMENT) };
        Objects::new(Cache::start(&*self.shared.source, selection, &[]), self.clients.clone(), self.manager)
    }

    fn cached<K: Kind>(&self, fields: Option<String>) -> Objects<K> {
        let mut caches = self.shared.caches.lock();
        let cache = caches.entry((TypeId::of::<K>(), fields.clone())).or_insert_with(|| {
            let selection = Selection { fields, ..Selection::of::<K>(K::URL_PATH_SEGMENT) };
            Cache::<K>::start(&*self.shared.source, selection, &[])
        });
        let cache = cache.clone().downcast::<Cache<K>>().expect("the map's key is the kind's type");
        Objects::new(cache, self.clients.clone(), self.manager)
    }

    /// Records events as `component`. Each recorder has one task; share it by cloning.
    pub fn recorder(&self, component: &'static str) -> Recorder {
        Recorder::start(self.clients.clone(), self.shared.clock.clone(), component)
    }

    pub fn clients(&self) -> &Arc<dyn Clients> {
        &self.clients
    }
    pub fn source(&self) -> &Arc<dyn Source> {
        &self.shared.source
    }
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.shared.clock
    }
    pub fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }
}
