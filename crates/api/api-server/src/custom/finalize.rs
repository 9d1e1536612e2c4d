//! Empties a definition that is being deleted: its objects go first, their own finalizers honoured.
use super::follow::write_status;
use crate::stored::stored;
use crate::{ApiServer, InProcess};
use api_auth::{MASTERS, User};
use api_custom::{CLEANUP, Definition, state};
use api_meta::{ClusterName, object};
use api_resource::AnyResource;
use http::Request;
use http_body_util::BodyExt;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use store::{Key, Op, Precondition, RangeRequest, Record, Scope, StoreError, Txn};
use tower::Service;

/// How soon it is looked again whether the last object is gone.
const POLL: Duration = Duration::from_millis(200);
/// After so long it says that it still waits, as upstream does.
const PATIENCE: Duration = Duration::from_secs(60);

/// Works until the definition is gone, or is no longer to go.
pub(super) async fn empty(server: &Arc<ApiServer>, cluster: &ClusterName, key: &Key) {
    let mut wait = POLL;
    loop {
        match attempt(server, cluster, key).await {
            Ok(true) | Err(StoreError::Closed) => return,
            Ok(false) => {}
            Err(StoreError::PreconditionFailed { .. }) => continue,
            Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, %key, "emptying a definition failed; trying again"),
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(Duration::from_secs(5));
    }
}

/// Whether there is nothing more to do.
async fn attempt(server: &Arc<ApiServer>, cluster: &ClusterName, key: &Key) -> Result<bool, StoreError> {
    let Some(record) = server.store.get(key).await? else { return Ok(true) };
    let object = stored(&record).object.to_value();
    let Ok(definition) = Definition::read(&record.value, record.mod_revision, None) else { return Ok(true) };
    if !definition.going {
        return Ok(true);
    }
    let tell = async |reason: &str, message: &str| {
        let Some(record) = server.store.get(key).await? else { return Ok(()) };
        let object = stored(&record).object.to_value();
        let mut status = object["status"].clone();
        state::set_terminating(&mut status, true, reason, message, server.clock.now());
        if status == object["status"] {
            return Ok(());
        }
        write_status(server, &record, object, status).await.map(|_| ())
    };
    let resource = api_meta::GroupResource::new(&definition.group, &definition.plural);
    if server.kinds.builtins_of(&definition.group).any(|kind| kind.names().plural == definition.plural) {
        return finish(server, &record, object, "OverlappingBuiltInResource", "instances overlap with built-in resources in storage").await;
    }
    if !definition.established {
        return finish(server, &record, object, "NeverEstablished", "resource was never established").await;
    }
    tell("InstanceDeletionInProgress", "CustomResource deletion is in progress").await?;
    if let Err(why) = delete_all(server, cluster, &definition, &resource).await {
        tell("InstanceDeletionFailed", &format!("could not issue all deletes: {why}")).await?;
        return Ok(false);
    }
    let scope = Scope::Resource { cluster: cluster.clone(), resource, namespace: None };
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let left = server.store.range(RangeRequest { scope: scope.clone(), after: None, limit: 1, revision: None }).await?;
        if left.records.is_empty() {
            break;
        }
        if tokio::time::Instant::now() > deadline {
            tell("InstanceDeletionCheck", "could not confirm zero CustomResources remaining: timed out waiting for the condition").await?;
            return Ok(false);
        }
        tokio::time::sleep(POLL).await;
    }
    let Some(record) = server.store.get(key).await? else { return Ok(true) };
    let object = stored(&record).object.to_value();
    finish(server, &record, object, "InstanceDeletionCompleted", "removed all instances").await
}

/// Lets the definition go: it is gone, unless others hold it by finalizers of their own.
async fn finish(server: &ApiServer, record: &Record, mut object: Value, reason: &str, message: &str) -> Result<bool, StoreError> {
    state::set_terminating(&mut object["status"], false, reason, message, server.clock.now());
    let finalizers = object["metadata"]["finalizers"].as_array_mut();
    let left = finalizers.map(|finalizers| {
        finalizers.retain(|f| f != CLEANUP);
        finalizers.len()
    });
    let key = record.key.clone();
    let op = if left.unwrap_or(0) == 0 {
        Op::Delete { key: key.clone() }
    } else {
        Op::Put { key: key.clone(), value: object::encode(object.as_object().expect("a stored object")) }
    };
    server.store.txn(Txn { preconditions: vec![Precondition::AtRevision(key, record.mod_revision)], ops: vec![op] }).await?;
    Ok(true)
}

/// Asks for the deletion of all objects, a namespace at a time, on the way everybody takes. The error is the first refusal.
async fn delete_all(server: &Arc<ApiServer>, cluster: &ClusterName, definition: &Definition, resource: &api_meta::GroupResource) -> Result<(), String> {
    let scope = Scope::Resource { cluster: cluster.clone(), resource: resource.clone(), namespace: None };
    let found = server.store.range(RangeRequest { scope, after: None, limit: 0, revision: None }).await.map_err(|error| error.to_string())?;
    let mut namespaces: Vec<String> = found.records.iter().map(|record| record.key.namespace().to_owned()).collect();
    namespaces.dedup();
    let Some(version) = definition.any_version() else {
        // No version is served, so that nobody could be told; the objects go as they are.
        for record in found.records {
            let txn = Txn { preconditions: Vec::new(), ops: vec![Op::Delete { key: record.key.clone() }] };
            server.store.txn(txn).await.map_err(|error| error.to_string())?;
        }
        return Ok(());
    };
    let names = version.names();
    let user = User { username: "system:apiserver".into(), groups: vec![MASTERS.into()], ..User::default() };
    let mut way = InProcess::new(server.clone(), cluster.clone(), Arc::new(user));
    let mut refusal = None;
    for namespace in namespaces {
        let root = format!("/apis/{}/{}", names.group, names.version);
        let path = if namespace.is_empty() { format!("{root}/{}", names.plural) } else { format!("{root}/namespaces/{namespace}/{}", names.plural) };
        let request = Request::delete(path).body(http_body_util::Full::new(bytes::Bytes::new())).map_err(|error| error.to_string())?;
        let Ok(answer) = way.call(request).await;
        if !answer.status().is_success() {
            let body = answer.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
            let status: Value = serde_json::from_slice(&body).unwrap_or_default();
            refusal.get_or_insert_with(|| status["message"].as_str().unwrap_or_default().to_owned());
        }
    }
    refusal.map_or(Ok(()), Err)
}
