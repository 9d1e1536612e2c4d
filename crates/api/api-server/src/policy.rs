//! Keeps the authorizers' indexes as the store has them: read once, then followed.
use crate::errors;
use crate::stored::stored;
use api_auth::{Authorizer, NodeGraphKind, RbacKind};
use api_meta::{ClusterName, GroupResource, Object, Status};
use std::sync::Arc;
use store::{RangeRequest, Revision, Scope, Store, StoreError};
use tokio_util::sync::CancellationToken;

const RBAC: &str = "rbac.authorization.k8s.io";

#[derive(Clone, Copy)]
enum Index {
    Rbac(RbacKind),
    Nodes(NodeGraphKind),
}

fn indexed() -> Vec<(GroupResource, Index)> {
    let rbac = |resource: &str, kind| (GroupResource::new(RBAC, resource), Index::Rbac(kind));
    vec![
        rbac("roles", RbacKind::Role),
        rbac("clusterroles", RbacKind::ClusterRole),
        rbac("rolebindings", RbacKind::RoleBinding),
        rbac("clusterrolebindings", RbacKind::ClusterRoleBinding),
        (GroupResource::new("", "pods"), Index::Nodes(NodeGraphKind::Pod)),
        (GroupResource::new("", "persistentvolumes"), Index::Nodes(NodeGraphKind::PersistentVolume)),
        (GroupResource::new("storage.k8s.io", "volumeattachments"), Index::Nodes(NodeGraphKind::VolumeAttachment)),
    ]
}

/// Reads every index once, so that the first request already meets the whole policy, and follows it in the background.
pub async fn follow(store: Arc<dyn Store>, authorizer: &Arc<Authorizer>, shutdown: CancellationToken) -> Result<(), Status> {
    for (resource, index) in indexed() {
        let revision = load(&*store, authorizer, &resource, index).await.map_err(errors::from_store)?;
        tokio::spawn(keep(store.clone(), authorizer.clone(), resource, index, revision, shutdown.clone()));
    }
    Ok(())
}

async fn load(store: &dyn Store, authorizer: &Authorizer, resource: &GroupResource, index: Index) -> Result<Revision, StoreError> {
    let found = store.range(RangeRequest { scope: Scope::AllClusters(resource.clone()), after: None, limit: 0, revision: None }).await?;
    for record in &found.records {
        if let Ok(cluster) = ClusterName::parse(record.key.cluster()) {
            apply(authorizer, index, &cluster, &stored(record).object, false);
        }
    }
    Ok(found.revision)
}

async fn keep(store: Arc<dyn Store>, authorizer: Arc<Authorizer>, resource: GroupResource, index: Index, mut revision: Revision, shutdown: CancellationToken) {
    loop {
        let mut events = match store.watch(Scope::AllClusters(resource.clone()), revision).await {
            Ok(events) => events,
            Err(StoreError::Closed) => return,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, %resource, "following the policy broke off; reading it again");
                match load(&*store, &authorizer, &resource, index).await {
                    Ok(newest) => revision = newest,
                    Err(_) => return,
                }
                continue;
            }
        };
        loop {
            let item = tokio::select! {
                item = events.recv() => item,
                () = shutdown.cancelled() => return,
            };
            match item {
                Some(Ok(event)) => {
                    revision = event.revision;
                    if let Ok(cluster) = ClusterName::parse(event.record.key.cluster()) {
                        apply(&authorizer, index, &cluster, &stored(&event.record).object, event.deleted);
                    }
                }
                Some(Err(StoreError::Slow)) => break,
                Some(Err(_)) | None => return,
            }
        }
    }
}

fn apply(authorizer: &Authorizer, index: Index, cluster: &ClusterName, object: &Object, deleted: bool) {
    match (index, deleted) {
        (Index::Rbac(kind), false) => authorizer.rbac().apply(cluster, kind, object),
        (Index::Rbac(kind), true) => authorizer.rbac().remove(cluster, kind, &object.meta().namespace, &object.meta().name),
        (Index::Nodes(kind), false) => authorizer.nodes().apply(cluster, kind, object),
        (Index::Nodes(kind), true) => authorizer.nodes().remove(cluster, kind, &object.meta().namespace, &object.meta().name),
    }
}
