//! Waiting for what becomes of a Cluster or a snapshot, by watching it.
use super::clusters;
use anyhow::{Context, Result, anyhow, bail};
use api_client::{is_not_found, kube};
use command_line::Session;
use futures::TryStreamExt;
use http::Request;
use kube::core::WatchEvent;
use serde_json::Value;
use std::time::Duration;

/// Waits until the Cluster is served as it is written; gives it.
///
/// # Errors
/// When it can't be served, or not within the time; why is in the Cluster's status.
pub async fn until_ready(session: &Session, cluster: Value, timeout: Duration) -> Result<Value> {
    let collection = collection_of(&cluster);
    let waiting = follow(session, &collection, cluster, |cluster| match cluster {
        None => Some(Err(anyhow!("the cluster was deleted"))),
        Some(cluster) => state(cluster).transpose().map(|done| done.map(|()| cluster.clone())),
    });
    tokio::time::timeout(timeout, waiting).await.context("the cluster did not become ready in time")?
}

/// Waits until the Cluster is gone.
pub async fn until_gone(session: &Session, cluster: Value, timeout: Duration) -> Result<()> {
    let uid = cluster["metadata"]["uid"].clone();
    let collection = collection_of(&cluster);
    let waiting = follow(session, &collection, cluster, |cluster| cluster.is_none_or(|cluster| cluster["metadata"]["uid"] != uid).then(|| Ok(())));
    tokio::time::timeout(timeout, waiting).await.context("the cluster was not removed in time")?
}

/// Waits until the Cluster's status says what was asked for.
///
/// # Errors
/// When it can't be, or not within the time; why is in the Cluster's status.
pub async fn until_told(session: &Session, cluster: Value, timeout: Duration, done: impl Fn(&Value) -> bool) -> Result<()> {
    let collection = collection_of(&cluster);
    let waiting = follow(session, &collection, cluster, |cluster| match cluster {
        None => Some(Err(anyhow!("the cluster was deleted"))),
        Some(cluster) if done(&cluster["status"]) => Some(Ok(())),
        Some(cluster) if matches!(cluster["status"]["phase"].as_str(), Some("Failed" | "Pending")) => Some(Err(anyhow!("{}", told(ready_of(cluster))))),
        Some(_) => None,
    });
    tokio::time::timeout(timeout, waiting).await.context("it was not done in time")?
}

/// Waits until the snapshot is taken; gives it.
///
/// # Errors
/// When it can't be taken, or not within the time.
pub async fn until_taken(session: &Session, collection: &str, snapshot: Value, timeout: Duration) -> Result<Value> {
    let waiting = follow(session, collection, snapshot, |snapshot| match snapshot {
        None => Some(Err(anyhow!("the snapshot was deleted"))),
        Some(snapshot) => match snapshot["status"]["phase"].as_str() {
            Some("Ready") => Some(Ok(snapshot.clone())),
            Some("Failed") => Some(Err(anyhow!("{}", snapshot["status"]["message"].as_str().unwrap_or("the snapshot could not be taken")))),
            _ => None,
        },
    });
    tokio::time::timeout(timeout, waiting).await.context("the snapshot was not taken in time")?
}

fn collection_of(cluster: &Value) -> String {
    clusters(cluster["metadata"]["namespace"].as_str().unwrap_or_default(), "")
}

fn ready_of(cluster: &Value) -> Option<&Value> {
    cluster["status"]["conditions"].as_array().into_iter().flatten().find(|condition| condition["type"] == "Ready")
}

/// `Some` when it is ready.
fn state(cluster: &Value) -> Result<Option<()>> {
    let status = &cluster["status"];
    let ready = ready_of(cluster);
    let current = ready.is_some_and(|ready| ready["observedGeneration"] == cluster["metadata"]["generation"]);
    let reason = ready.map_or("", |ready| ready["reason"].as_str().unwrap_or_default());
    match status["phase"].as_str() {
        Some("Ready" | "Paused") if current => Ok(Some(())),
        Some("Failed") if current => bail!("{}", told(ready)),
        Some("Pending") if current && reason == crate::status::VALIDATION_FAILED => bail!("{}", told(ready)),
        _ => Ok(None),
    }
}

fn told(condition: Option<&Value>) -> String {
    condition.and_then(|condition| condition["message"].as_str()).unwrap_or("the cluster could not be made").to_owned()
}

/// Shows `look` an object now and after every change, until it has seen enough. `None` is one that is gone.
async fn follow<T>(session: &Session, collection: &str, object: Value, look: impl Fn(Option<&Value>) -> Option<Result<T>>) -> Result<T> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let mut current = Some(object);
    loop {
        if let Some(done) = look(current.as_ref()) {
            return done;
        }
        let version = current.as_ref().and_then(|cluster| cluster["metadata"]["resourceVersion"].as_str()).unwrap_or_default();
        let path = format!("{collection}?watch=true&fieldSelector=metadata.name%3D{name}&resourceVersion={version}");
        let mut events = std::pin::pin!(session.client.request_events::<Value>(Request::get(path).body(Vec::new())?).await?);
        while let Some(event) = events.try_next().await.unwrap_or_default() {
            let seen = match &event {
                WatchEvent::Added(cluster) | WatchEvent::Modified(cluster) => look(Some(cluster)),
                WatchEvent::Deleted(_) => look(None),
                WatchEvent::Bookmark(_) => None,
                WatchEvent::Error(_) => break,
            };
            if let Some(done) = seen {
                return done;
            }
        }
        // The watch broke off; where things stand now is where the next one begins.
        current = match session.get(&format!("{collection}/{name}")).await {
            Err(error) if is_not_found(&error) => None,
            found => Some(found?),
        };
    }
}
