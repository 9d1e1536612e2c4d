//! Keeps the authorizers' indexes, and admission's registry, as the store has them: read once, then followed.
use crate::aggregation::Aggregation;
use crate::errors;
use crate::fairness::Turnstile;
use crate::stored::stored;
use api_admission::{ConfigurationKind, Registry};
use api_auth::{Authorizer, NodeGraphKind, RbacKind};
use api_fairness::ConfigurationKind as FlowKind;
use api_meta::{ClusterName, GroupResource, Object, Status};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use store::{Key, RangeRequest, Revision, Scope, Store, StoreError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const RBAC: &str = "rbac.authorization.k8s.io";
const REGISTRATION: &str = "apiregistration.k8s.io";
const ADMISSION: &str = "admissionregistration.k8s.io";
/// A writer of policy waits no longer than this for it to take effect; the index lives in this process, so it takes microseconds.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(2);
const RETRY: Duration = Duration::from_millis(100);

#[derive(Clone, Copy)]
enum Index {
    Rbac(RbacKind),
    Nodes(NodeGraphKind),
    Admission(ConfigurationKind),
    Flow(FlowKind),
    Aggregation,
}

fn indexed() -> Vec<(GroupResource, Index)> {
    let rbac = |kind: RbacKind| (GroupResource::new(RBAC, kind.resource()), Index::Rbac(kind));
    let mut all: Vec<(GroupResource, Index)> = RbacKind::ALL.into_iter().map(rbac).collect();
    all.push((GroupResource::new("", "pods"), Index::Nodes(NodeGraphKind::Pod)));
    all.push((GroupResource::new("", "persistentvolumes"), Index::Nodes(NodeGraphKind::PersistentVolume)));
    all.push((GroupResource::new("storage.k8s.io", "volumeattachments"), Index::Nodes(NodeGraphKind::VolumeAttachment)));
    all.push((GroupResource::new("networking.k8s.io", "ingresses"), Index::Nodes(NodeGraphKind::Ingress)));
    all.push((GroupResource::new("", "nodes"), Index::Nodes(NodeGraphKind::Node)));
    all.push((GroupResource::new(REGISTRATION, "apiservices"), Index::Aggregation));
    all.extend(ConfigurationKind::ALL.map(|kind| (GroupResource::new(ADMISSION, kind.resource()), Index::Admission(kind))));
    all.extend(FlowKind::ALL.map(|kind| (GroupResource::new(FlowKind::GROUP, kind.resource()), Index::Flow(kind))));
    all
}

/// How far each part of the policy has been followed.
pub struct Policy(Vec<(GroupResource, watch::Receiver<Revision>)>);

impl Policy {
    /// Waits until what was written to RBAC, or about webhooks, policies and priorities, at `revision` is what requests are judged by. Nothing to wait for elsewhere.
    pub async fn caught_up(&self, resource: &GroupResource, revision: Revision) {
        if ![RBAC, ADMISSION, REGISTRATION, FlowKind::GROUP].contains(&resource.group.as_str()) {
            return;
        }
        let Some((_, seen)) = self.0.iter().find(|(of, _)| of == resource) else { return };
        // Either way the write stands. A follower that ended has seen the server stop.
        let _ = tokio::time::timeout(CATCH_UP_TIMEOUT, seen.clone().wait_for(|seen| *seen >= revision)).await;
    }
}

/// Reads every index once, so that the first request already meets the whole policy, and follows it in the background.
pub async fn follow(
    store: Arc<dyn Store>,
    authorizer: &Arc<Authorizer>,
    registry: &Arc<Registry>,
    turnstile: &Arc<Turnstile>,
    aggregation: &Arc<Aggregation>,
    shutdown: CancellationToken,
) -> Result<Policy, Status> {
    let mut followed = Vec::new();
    for (resource, index) in indexed() {
        let follower = Follower {
            store: store.clone(),
            authorizer: authorizer.clone(),
            registry: registry.clone(),
            turnstile: turnstile.clone(),
            aggregation: aggregation.clone(),
            resource: resource.clone(),
            index,
        };
        let revision = follower.load().await.map_err(errors::from_store)?;
        let (seen, receiver) = watch::channel(revision);
        let shutdown = shutdown.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = follower.keep(revision, seen) => {}
                () = shutdown.cancelled() => {}
            }
        });
        followed.push((resource, receiver));
    }
    Ok(Policy(followed))
}

struct Follower {
    store: Arc<dyn Store>,
    authorizer: Arc<Authorizer>,
    registry: Arc<Registry>,
    turnstile: Arc<Turnstile>,
    aggregation: Arc<Aggregation>,
    resource: GroupResource,
    index: Index,
}

impl Follower {
    /// Makes the index what the store holds now.
    async fn load(&self) -> Result<Revision, StoreError> {
        let found = self.store.range(RangeRequest { scope: Scope::AllClusters(self.resource.clone()), after: None, limit: 0, revision: None }).await?;
        let live: HashSet<&str> = found.records.iter().map(|record| record.key.as_str()).collect();
        let keep = |cluster: &ClusterName, namespace: &str, name: &str| live.contains(Key::new(cluster, &self.resource, namespace, name).as_str());
        match self.index {
            Index::Rbac(kind) => self.authorizer.rbac().retain(kind, keep),
            Index::Nodes(kind) => self.authorizer.nodes().retain(kind, keep),
            Index::Admission(kind) => self.registry.retain(kind, |cluster, name| keep(cluster, "", name)),
            Index::Flow(kind) => self.turnstile.retain(kind, |cluster, name| keep(cluster, "", name)),
            Index::Aggregation => self.aggregation.retain(|cluster, name| keep(cluster, "", name)),
        }
        for record in &found.records {
            self.apply(&record.key, &stored(record).object, false);
        }
        Ok(found.revision)
    }

    /// Follows the store until it is closed.
    async fn keep(&self, mut revision: Revision, seen: watch::Sender<Revision>) {
        loop {
            match self.events(&mut revision, &seen).await {
                StoreError::Closed => return,
                // Its place in the history is still there to go on from.
                StoreError::Slow => continue,
                error => {
                    tracing::warn!(error = &error as &dyn std::error::Error, resource = %self.resource, "following the policy broke off; reading it again")
                }
            }
            match self.load().await {
                Ok(newest) => {
                    revision = newest;
                    seen.send_replace(revision);
                }
                Err(StoreError::Closed) => return,
                Err(_) => tokio::time::sleep(RETRY).await,
            }
        }
    }

    /// Applies events until the stream of them ends; gives why it did.
    async fn events(&self, revision: &mut Revision, seen: &watch::Sender<Revision>) -> StoreError {
        let mut events = match self.store.watch(Scope::AllClusters(self.resource.clone()), *revision).await {
            Ok(events) => events,
            Err(error) => return error,
        };
        loop {
            match events.recv().await {
                Some(Ok(event)) => {
                    *revision = event.revision;
                    self.apply(&event.record.key, &stored(&event.record).object, event.deleted);
                    seen.send_replace(event.revision);
                }
                Some(Err(error)) => return error,
                None => return StoreError::Closed,
            }
        }
    }

    fn apply(&self, key: &Key, object: &Object, deleted: bool) {
        let Ok(cluster) = ClusterName::parse(key.cluster()) else { return };
        let (rbac, nodes) = (self.authorizer.rbac(), self.authorizer.nodes());
        match (self.index, deleted) {
            (Index::Rbac(kind), false) => rbac.apply(&cluster, kind, object),
            (Index::Rbac(kind), true) => rbac.remove(&cluster, kind, key.namespace(), key.name()),
            (Index::Nodes(kind), false) => nodes.apply(&cluster, kind, object),
            (Index::Admission(kind), false) => self.registry.apply(&cluster, kind, object),
            (Index::Admission(kind), true) => self.registry.remove(&cluster, kind, key.name()),
            (Index::Flow(kind), deleted) => self.turnstile.apply(&cluster, kind, key.name(), (!deleted).then_some(object)),
            (Index::Aggregation, false) => self.aggregation.apply(&cluster, object),
            (Index::Aggregation, true) => self.aggregation.remove(&cluster, key.name()),
            (Index::Nodes(kind), true) => nodes.remove(&cluster, kind, key.namespace(), key.name()),
        }
    }
}
