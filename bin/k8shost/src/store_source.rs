//! StoreSource: feeds caches straight from this process's store.
use api_cache::{Selection, Source, SourceEvent};
use api_meta::{ClusterName, FieldSelector, LabelSelector};
use api_server::{Kind, Kinds, stored};
use futures::StreamExt;
use futures::stream::BoxStream;
use std::sync::Arc;
use store::{Event, RangeRequest, Record, Scope, Store, StoreError, WatchStream};
use store_views::is_hidden;

/// Follows resources in the store, over all clusters or one.
pub struct StoreSource {
    store: Arc<dyn Store>,
    kinds: Arc<Kinds>,
}

impl StoreSource {
    pub fn new(store: Arc<dyn Store>, kinds: Arc<Kinds>) -> Self {
        Self { store, kinds }
    }
}

impl Source for StoreSource {
    fn follow(&self, selection: Selection) -> BoxStream<'static, SourceEvent> {
        let resource = selection.group_resource();
        let scope = match &selection.cluster {
            Some(cluster) => Scope::Resource { cluster: cluster.clone(), resource, namespace: selection.namespace.clone() },
            None => Scope::AllClusters(resource),
        };
        let cluster = selection.cluster.clone().unwrap_or_else(ClusterName::root);
        let kind = self.kinds.find(&cluster, &selection.group, &selection.version, &selection.resource);
        let fields = selection.fields.as_deref().map(|text| FieldSelector::parse(text).expect("components select by well-formed fields")).unwrap_or_default();
        let follower = Follower { store: self.store.clone(), scope, kind, fields, state: State::Start, ready: Default::default(), latest: ClusterName::root() };
        futures::stream::unfold(follower, |mut follower| async move { follower.next().await.map(|event| (event, follower)) }).boxed()
    }
}

enum State {
    Start,
    Live(WatchStream),
}

struct Follower {
    store: Arc<dyn Store>,
    scope: Scope,
    kind: Option<Kind>,
    fields: FieldSelector,
    state: State,
    ready: std::collections::VecDeque<SourceEvent>,
    /// The cluster told of last: the next change is likely to be in the same one, and then shares its name.
    latest: ClusterName,
}

impl Follower {
    async fn next(&mut self) -> Option<SourceEvent> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            match &mut self.state {
                State::Start => match self.list().await {
                    Ok(live) => self.state = State::Live(live),
                    Err(StoreError::Closed) => return None,
                    Err(error) => {
                        tracing::warn!(error = &error as &dyn std::error::Error, "following the store broke off; starting again");
                        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                    }
                },
                State::Live(live) => match live.recv().await {
                    Some(Ok(event)) => self.take(&event),
                    Some(Err(StoreError::Closed)) | None => return None,
                    Some(Err(_)) => self.state = State::Start,
                },
            }
        }
    }

    async fn list(&mut self) -> Result<WatchStream, StoreError> {
        let found = self.store.range(RangeRequest { scope: self.scope.clone(), after: None, limit: 0, revision: None }).await?;
        let live = self.store.watch(self.scope.clone(), found.revision).await?;
        self.ready.push_back(SourceEvent::Restart);
        for record in &found.records {
            if !is_hidden(record)
                && self.holds(record)
                && let Some(cluster) = self.cluster_of(record)
            {
                self.ready.push_back(SourceEvent::Applied { cluster, object: record.value.clone() });
            }
        }
        self.ready.push_back(SourceEvent::Listed);
        Ok(live)
    }

    fn holds(&self, record: &Record) -> bool {
        let in_key = |field: &str| match field {
            "metadata.name" => Some(record.key.name()),
            "metadata.namespace" => Some(record.key.namespace()),
            _ => None,
        };
        match &self.kind {
            // Nobody has to read, and keep what was read of, objects that their keys tell apart.
            _ if self.fields.requirements().iter().all(|requirement| in_key(&requirement.field).is_some()) => {
                self.fields.matches(|field| in_key(field).unwrap_or_default().into())
            }
            Some(kind) if !self.fields.is_everything() => stored(record).matches(&**kind, &LabelSelector::everything(), &self.fields),
            _ => true,
        }
    }

    fn take(&mut self, event: &Event) {
        let Some(cluster) = self.cluster_of(&event.record) else { return };
        let object = event.record.value.clone();
        // A mark hides an object of the base: to its cluster, there is none.
        let before = event.previous.as_ref().is_some_and(|record| !is_hidden(record) && self.holds(record));
        let now = !event.deleted && !is_hidden(&event.record) && self.holds(&event.record);
        match (before, now) {
            (_, true) => self.ready.push_back(SourceEvent::Applied { cluster, object }),
            (true, false) => self.ready.push_back(SourceEvent::Deleted { cluster, object }),
            (false, false) => {}
        }
    }

    fn cluster_of(&mut self, record: &Record) -> Option<ClusterName> {
        let name = record.key.cluster();
        if name != self.latest.as_str() {
            self.latest = ClusterName::parse(name).ok()?;
        }
        Some(self.latest.clone())
    }
}
