//! Settling: what a restore can't simply write is created as if its owner did, with all that the host asks of new objects.
use super::hosting::ClusterError;
use crate::in_process::InProcess;
use crate::server::ApiServer;
use api_auth::{MASTERS, User};
use api_meta::{ClusterName, GroupResource, object};
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use std::sync::Arc;
use store::{Key, Op, RangeRequest, Scope, Txn};
use tower::Service;

/// Not a served resource: objects that are still to be created, in the order of their names.
pub(super) fn resource() -> GroupResource {
    GroupResource::new("k8shost.io", "restoring")
}

/// Where an object waits. Claims come before the pods that want them.
pub(super) fn waiting(cluster: &ClusterName, object: &Value) -> Option<(Key, Bytes)> {
    let metadata = &object["metadata"];
    let (kind, namespace, name) = (object["kind"].as_str()?, metadata["namespace"].as_str()?, metadata["name"].as_str()?);
    let place = format!("{}.{name}", if kind == "PersistentVolumeClaim" { "1-persistentvolumeclaims" } else { "2-pods" });
    let value = json!({ "kind": "Restoring", "apiVersion": "k8shost.io/v1", "metadata": { "name": place, "namespace": namespace }, "object": object });
    Some((Key::new(cluster, &resource(), namespace, &place), object::encode(value.as_object()?)))
}

impl ApiServer {
    /// Creates what waits. What the cluster or its host refuses is left out, as a log line tells; may be done again.
    pub(super) async fn create_waiting(self: &Arc<Self>, cluster: &ClusterName) -> Result<(), ClusterError> {
        let user = Arc::new(User::authenticated("system:k8shost:restore", [MASTERS.to_owned()]));
        let scope = Scope::Resource { cluster: cluster.clone(), resource: resource(), namespace: None };
        let found = self.tenancy.records.range(RangeRequest { scope, after: None, limit: 0, revision: None }).await?;
        let mut records = found.records;
        records.sort_by(|a, b| a.key.name().cmp(b.key.name()));
        for record in records {
            let waiting: Value = serde_json::from_slice(&record.value)?;
            let body = Bytes::from(waiting["object"].to_string());
            let plural = if waiting["object"]["kind"] == "PersistentVolumeClaim" { "persistentvolumeclaims" } else { "pods" };
            let path = format!("/api/v1/namespaces/{}/{plural}", record.key.namespace());
            let request = Request::post(&path).header(header::CONTENT_TYPE, "application/json").body(Full::new(body)).expect("names in keys make a path");
            let Ok(answer) = InProcess::new(self.clone(), cluster.clone(), user.clone()).call(request).await;
            let code = answer.status();
            if code.is_server_error() || code == StatusCode::TOO_MANY_REQUESTS {
                let told = answer.into_body().collect().await.map(|body| String::from_utf8_lossy(&body.to_bytes()).into_owned()).unwrap_or_default();
                return Err(ClusterError::Unsettled { path, told });
            }
            if !code.is_success() && code != StatusCode::CONFLICT {
                tracing::warn!(%cluster, path, name = record.key.name(), %code, "an object of a snapshot was refused and is left out");
            }
            self.tenancy.records.txn(Txn { preconditions: vec![], ops: vec![Op::Delete { key: record.key.clone() }] }).await?;
        }
        Ok(())
    }
}
