//! ViewStore: an engine seen through the views of its clusters.
use crate::base::{Layers, moved, seen_as};
use crate::hidden::is_hidden;
use crate::mirror::Mirrors;
use crate::watching;
use api_meta::{ClusterName, GroupResource};
use async_trait::async_trait;
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use store::{Committed, Event, Key, Op, Precondition, RangeRequest, RangeResponse, Record, Revision, Scope, Store, StoreError, Txn, WatchStream};

/// How a stamped value is given another revision (`api_meta::object::restamp`).
pub(crate) type Restamp = fn(&[u8], Revision) -> Bytes;

/// A store whose virtual clusters see the base and their mirrors too.
///
/// Scopes over all clusters, or over a whole cluster, show what is really stored, marks included ([`is_hidden`]).
///
/// INVARIANT: nothing of the host cluster or the base is changed through a virtual cluster's keys.
pub struct ViewStore {
    inner: Arc<dyn Store>,
    layered: HashSet<GroupResource>,
    mirrors: Arc<dyn Mirrors>,
    restamp: Restamp,
}

/// How a cluster sees a resource.
enum View {
    Own,
    Layered,
    Mirrored,
}

impl ViewStore {
    /// `layered` are the resources whose objects in [`ClusterName::base`] every virtual cluster sees.
    pub fn new(inner: Arc<dyn Store>, layered: impl IntoIterator<Item = GroupResource>, mirrors: Arc<dyn Mirrors>, restamp: Restamp) -> Self {
        Self { inner, layered: layered.into_iter().collect(), mirrors, restamp }
    }

    fn view(&self, cluster: &ClusterName, resource: &GroupResource) -> View {
        if cluster.host_object().is_none() {
            View::Own
        } else if self.layered.contains(resource) {
            View::Layered
        } else if self.mirrors.mirrors(cluster, resource) {
            View::Mirrored
        } else {
            View::Own
        }
    }

    /// The view that a key is read through, and whose it is.
    fn view_of(&self, key: &Key) -> Option<(View, ClusterName)> {
        // The host's keys are the many: nothing is taken apart for them.
        if !key.cluster().contains('.') {
            return None;
        }
        let cluster = ClusterName::parse(key.cluster()).ok()?;
        Some((self.view(&cluster, &GroupResource::new(key.group(), key.resource())), cluster))
    }

    fn mirrored(&self, cluster: &ClusterName, record: &Record) -> Option<Arc<Record>> {
        let value = self.mirrors.view(cluster, record)?;
        Some(Record::new(moved(&record.key, cluster), record.create_revision, record.mod_revision, value))
    }

    async fn layers(&self, key: &Key) -> Result<Layers, StoreError> {
        Ok(Layers { own: self.inner.get(key).await?, base: self.inner.get(&moved(key, &ClusterName::base())).await? })
    }

    /// What lies at the layered keys of a transaction.
    async fn layered_keys(&self, txn: &Txn) -> Result<HashMap<Key, Layers>, StoreError> {
        let mut found = HashMap::new();
        for key in txn.preconditions.iter().map(key_of_precondition).chain(txn.ops.iter().map(key_of_op)) {
            if let Some((View::Layered, _)) = self.view_of(key)
                && !found.contains_key(key)
            {
                found.insert(key.clone(), self.layers(key).await?);
            }
        }
        Ok(found)
    }

    async fn merged(&self, request: RangeRequest, cluster: &ClusterName) -> Result<RangeResponse, StoreError> {
        let Scope::Resource { resource, namespace, .. } = &request.scope else { return self.inner.range(request).await };
        let below = Scope::Resource { cluster: ClusterName::base(), resource: resource.clone(), namespace: namespace.clone() };
        let own = self.inner.range(RangeRequest { after: None, limit: 0, ..request.clone() }).await?;
        // The base as it was then; a revision before there was one is as good as the first.
        let base = self.inner.range(RangeRequest { scope: below, after: None, limit: 0, revision: None }).await?;
        let mut all: BTreeMap<Key, Arc<Record>> = BTreeMap::new();
        all.extend(base.records.iter().map(|record| moved(&record.key, cluster)).zip(&base.records).map(|(key, record)| (key.clone(), seen_as(record, key))));
        all.extend(own.records.into_iter().map(|record| (record.key.clone(), record)));
        let records = all.into_values().filter(|record| !is_hidden(record));
        Ok(page(records, &request, own.revision))
    }

    async fn mirrored_range(&self, request: RangeRequest, cluster: &ClusterName) -> Result<RangeResponse, StoreError> {
        let Scope::Resource { resource, namespace, .. } = &request.scope else { return self.inner.range(request).await };
        let scope = Scope::Resource { cluster: ClusterName::root(), resource: resource.clone(), namespace: namespace.clone() };
        let found = self.inner.range(RangeRequest { scope, after: None, limit: 0, revision: request.revision }).await?;
        Ok(page(found.records.iter().filter_map(|record| self.mirrored(cluster, record)), &request, found.revision))
    }
}

/// The part of all records that was asked for.
fn page(records: impl Iterator<Item = Arc<Record>>, request: &RangeRequest, revision: Revision) -> RangeResponse {
    let wanted = records.filter(|record| request.after.as_deref().is_none_or(|after| record.key.as_str() > after));
    let mut records: Vec<_> = wanted.collect();
    let limit = if request.limit == 0 { records.len() } else { request.limit.min(records.len()) };
    let remaining = records.len() - limit;
    records.truncate(limit);
    RangeResponse { records, revision, remaining }
}

fn key_of_precondition(precondition: &Precondition) -> &Key {
    match precondition {
        Precondition::Absent(key) | Precondition::AtRevision(key, _) | Precondition::Exists(key) => key,
    }
}

fn key_of_op(op: &Op) -> &Key {
    match op {
        Op::Put { key, .. } | Op::Delete { key } => key,
    }
}

#[async_trait]
impl Store for ViewStore {
    async fn txn(&self, txn: Txn) -> Result<Committed, StoreError> {
        let layered = self.layered_keys(&txn).await?;
        if layered.is_empty() {
            return self.inner.txn(txn).await;
        }
        let preconditions = txn.preconditions.into_iter().map(|asked| match layered.get(key_of_precondition(&asked)) {
            Some(layers) => layers.precondition(asked),
            None => Ok(asked),
        });
        let preconditions = preconditions.collect::<Result<_, _>>()?;
        let ops = txn.ops.into_iter().filter_map(|asked| match layered.get(key_of_op(&asked)) {
            Some(layers) => layers.op(asked),
            None => Some(asked),
        });
        let committed = self.inner.txn(Txn { preconditions, ops: ops.collect() }).await.map_err(watching::unmarked)?;
        let events = committed.events.into_iter().filter_map(|event| match layered.get(&event.record.key) {
            Some(layers) => watching::layered(&event, layers.base.as_ref(), self.restamp),
            None => Some(event),
        });
        Ok(Committed { revision: committed.revision, events: events.collect() })
    }

    fn revision(&self) -> Revision {
        self.inner.revision()
    }

    async fn get(&self, key: &Key) -> Result<Option<Arc<Record>>, StoreError> {
        match self.view_of(key) {
            Some((View::Layered, _)) => Ok(self.layers(key).await?.visible(key)),
            Some((View::Mirrored, cluster)) => Ok(self.inner.get(&moved(key, &ClusterName::root())).await?.and_then(|record| self.mirrored(&cluster, &record))),
            Some((View::Own, _)) | None => self.inner.get(key).await,
        }
    }

    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, StoreError> {
        match &request.scope {
            Scope::Resource { cluster, resource, .. } => {
                let cluster = cluster.clone();
                match self.view(&cluster, resource) {
                    View::Own => self.inner.range(request).await,
                    View::Layered => self.merged(request, &cluster).await,
                    View::Mirrored => self.mirrored_range(request, &cluster).await,
                }
            }
            Scope::Key(key) if self.view_of(key).is_some_and(|(view, _)| !matches!(view, View::Own)) => {
                // One key has no history here but its newest; whoever pages has no need of more.
                let revision = self.inner.revision();
                let record = self.get(key).await?;
                Ok(page(record.into_iter(), &request, revision))
            }
            _ => self.inner.range(request).await,
        }
    }

    async fn watch(&self, scope: Scope, after: Revision) -> Result<WatchStream, StoreError> {
        let (view, cluster) = match &scope {
            Scope::Resource { cluster, resource, .. } => (self.view(cluster, resource), cluster.clone()),
            Scope::Key(key) => match self.view_of(key) {
                Some(found) => found,
                None => return self.inner.watch(scope, after).await,
            },
            _ => return self.inner.watch(scope, after).await,
        };
        match view {
            View::Own => self.inner.watch(scope, after).await,
            View::Layered => {
                let base = self.base_below(&scope).await?;
                // The base changes at most when a server starts; who watched before lists again.
                if let Some(newest) = base.values().map(|record| record.mod_revision).max().filter(|newest| *newest > after) {
                    return Err(StoreError::Compacted { requested: after, oldest: newest });
                }
                let restamp = self.restamp;
                let see = move |event: &Arc<Event>| {
                    let below = base.get(&(event.record.key.namespace().into(), event.record.key.name().into()));
                    watching::layered(event, below, restamp)
                };
                Ok(watching::mapped(self.inner.watch(scope, after).await?, see))
            }
            View::Mirrored => {
                let mirrors = self.mirrors.clone();
                let events = self.inner.watch(in_root(&scope), after).await?;
                Ok(watching::mapped(events, move |event| watching::mirrored(event, &*mirrors, &cluster)))
            }
        }
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.inner.compact(revision).await
    }

    fn oldest(&self) -> Revision {
        self.inner.oldest()
    }
}

/// Records of the base by namespace and name.
type Below = HashMap<(Box<str>, Box<str>), Arc<Record>>;

impl ViewStore {
    async fn base_below(&self, scope: &Scope) -> Result<Below, StoreError> {
        let records = match scope {
            Scope::Key(key) => self.inner.get(&moved(key, &ClusterName::base())).await?.into_iter().collect(),
            Scope::Resource { resource, namespace, .. } => {
                let scope = Scope::Resource { cluster: ClusterName::base(), resource: resource.clone(), namespace: namespace.clone() };
                self.inner.range(RangeRequest { scope, after: None, limit: 0, revision: None }).await?.records
            }
            _ => Vec::new(),
        };
        Ok(records.into_iter().map(|record| ((record.key.namespace().into(), record.key.name().into()), record)).collect())
    }
}

fn in_root(scope: &Scope) -> Scope {
    match scope {
        Scope::Key(key) => Scope::Key(moved(key, &ClusterName::root())),
        Scope::Resource { resource, namespace, .. } => {
            Scope::Resource { cluster: ClusterName::root(), resource: resource.clone(), namespace: namespace.clone() }
        }
        other => other.clone(),
    }
}
