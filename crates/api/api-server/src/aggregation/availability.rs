//! Availability: whether aggregated servers answer, told in the status of their APIServices.
use super::backend::{Backend, State};
use super::forward::speak_for;
use crate::ApiServer;
use crate::stored::stored;
use api_auth::{MASTERS, User};
use api_meta::{GroupResource, Status, object};
use api_resource::Lookup;
use bytes::Bytes;
use clock::rfc3339_seconds;
use http::{Request, header};
use http_body_util::{BodyExt, Full, Limited};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use store::{Key, Op, Precondition, StoreError, Txn};
use tokio::sync::mpsc;

/// How often a server that answers is asked whether it still does.
const EVERY: Duration = Duration::from_secs(30);
/// How soon one that does not is asked again, doubled each time.
const SOON: Duration = Duration::from_millis(500);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Documents larger than this, in bytes, are nobody's.
const LARGEST: usize = 16 << 20;

/// Why a server is not available: upstream's reason and message.
struct Trouble {
    reason: &'static str,
    message: String,
}

/// Looks after each backend until it is gone or the server stops.
pub(crate) async fn follow(server: Arc<ApiServer>, mut found: mpsc::UnboundedReceiver<Arc<Backend>>) {
    loop {
        let backend = tokio::select! {
            backend = found.recv() => backend,
            () = server.shutdown.cancelled() => None,
        };
        let Some(backend) = backend else { return };
        tokio::spawn(look_after(server.clone(), backend));
    }
}

async fn look_after(server: Arc<ApiServer>, backend: Arc<Backend>) {
    let mut wait = SOON;
    loop {
        let looked = server.look_at(&backend).await;
        let available = looked.is_ok();
        let trouble = match looked {
            Ok(state) => {
                server.aggregation.take_state(&backend, state);
                None
            }
            Err(trouble) => {
                // What it said of itself may still be true when it comes back.
                server.aggregation.take_state(&backend, State { available: false, ..backend.state() });
                Some(trouble)
            }
        };
        if let Err(error) = server.tell_availability(&backend, trouble.as_ref()).await {
            tracing::warn!(error = &error as &dyn std::error::Error, name = backend.name, "telling whether an aggregated API is available failed");
        }
        wait = if available { EVERY } else { (wait * 2).min(EVERY) };
        tokio::select! {
            () = backend.gone.cancelled() => return,
            () = server.shutdown.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
        if available {
            wait = SOON;
        }
    }
}

impl ApiServer {
    async fn look_at(&self, backend: &Backend) -> Result<State, Trouble> {
        let trouble = |reason, message| Trouble { reason, message };
        let Backend { namespace, service, port, group, version, .. } = backend;
        let found = Lookup::get(self, &backend.cluster, &GroupResource::new("", "services"), namespace, service).await;
        let found = found.map_err(|status: Status| {
            trouble("ServiceAccessError", format!("service/{service} in {namespace:?} cannot be checked due to: {}", status.message))
        })?;
        let Some(object) = found.map(|object| object.to_value()) else {
            return Err(trouble("ServiceNotFound", format!("service/{service} in {namespace:?} is not present")));
        };
        let ports = object["spec"]["ports"].as_array().cloned().unwrap_or_default();
        let own = ports.iter().find(|entry| entry["port"] == *port);
        if object["spec"]["type"] != "ExternalName" {
            let Some(own) = own else {
                return Err(trouble("ServicePortError", format!("service/{service} in {namespace:?} is not listening on port {port}")));
            };
            if api_admission::service_endpoint(namespace, service, *port, &backend.cluster, self).await.is_err() {
                let name = own["name"].as_str().unwrap_or_default();
                return Err(trouble("MissingEndpoints", format!("endpoints for service/{service} in {namespace:?} have no addresses with port name {name:?}")));
            }
        }
        let url = format!("https://{}:{port}/apis/{group}/{version}", backend.host());
        let failed = |why: String| trouble("FailedDiscoveryCheck", format!("failing or missing response from {url}: {why}"));
        let resources = self.ask_for(backend, &format!("/apis/{group}/{version}")).await.map_err(failed)?;
        // Not every server describes itself; it serves all the same.
        let document = self.ask_for(backend, &format!("/openapi/v3/apis/{group}/{version}")).await.ok();
        let document_v2 = self.ask_for(backend, "/openapi/v2").await.ok().filter(Value::is_object);
        Ok(State { available: true, resources: Some(Arc::new(resources)), document: document.map(Arc::new), document_v2: document_v2.map(Arc::new) })
    }

    /// A document of an aggregated server, asked for by this server itself.
    async fn ask_for(&self, backend: &Backend, path: &str) -> Result<Value, String> {
        let user = User { username: "system:kube-aggregator".into(), groups: vec![MASTERS.into()], ..User::default() };
        let mut request = Request::get(path).header(header::ACCEPT, "application/json").body(Full::new(Bytes::new())).map_err(|error| error.to_string())?;
        speak_for(&user, request.headers_mut()).map_err(|error| error.to_string())?;
        let exchange = async {
            let answer = self.ask_backend(backend, request).await?;
            let code = answer.status();
            if !code.is_success() {
                return Err(format!("bad status from https://{}:{}{path}: {}", backend.host(), backend.port, code.as_u16()));
            }
            let body = Limited::new(answer.into_body(), LARGEST).collect().await.map_err(|error| error.to_string())?.to_bytes();
            serde_json::from_slice(&body).map_err(|error| error.to_string())
        };
        tokio::time::timeout(PATIENCE, exchange).await.map_err(|_| "context deadline exceeded".to_owned())?
    }

    /// Writes the condition if it says something new.
    async fn tell_availability(&self, backend: &Backend, trouble: Option<&Trouble>) -> Result<(), StoreError> {
        let (status, reason, message) = match trouble {
            None => ("True", "Passed", "all checks passed"),
            Some(trouble) => ("False", trouble.reason, trouble.message.as_str()),
        };
        let key = Key::new(&backend.cluster, &GroupResource::new("apiregistration.k8s.io", "apiservices"), "", &backend.name);
        loop {
            let Some(record) = self.store.get(&key).await? else { return Ok(()) };
            if backend.gone.is_cancelled() {
                return Ok(());
            }
            let mut object = stored(&record).object.to_value();
            let mut condition = json!({ "type": "Available", "status": status, "reason": reason, "message": message });
            let mut conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let before = conditions.iter().position(|condition| condition["type"] == "Available");
            let since = before.map(|at| &conditions[at]).filter(|known| known["status"] == status).map(|known| known["lastTransitionTime"].clone());
            condition["lastTransitionTime"] = since.unwrap_or_else(|| rfc3339_seconds(self.clock.now()).into());
            match before {
                Some(at) if conditions[at] == condition => return Ok(()),
                Some(at) => conditions[at] = condition,
                None => conditions.push(condition),
            }
            object["status"]["conditions"] = conditions.into();
            let value = object::encode(object.as_object().expect("a stored object"));
            let txn = Txn { preconditions: vec![Precondition::AtRevision(key.clone(), record.mod_revision)], ops: vec![Op::Put { key: key.clone(), value }] };
            match self.store.txn(txn).await {
                // It was changed meanwhile: look at what it is now.
                Err(StoreError::PreconditionFailed { .. }) => {}
                other => return other.map(|_| ()),
            }
        }
    }
}
