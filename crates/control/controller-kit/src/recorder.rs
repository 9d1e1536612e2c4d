//! Recorder: writes core/v1 Events in the background; recording never waits and never fails its caller.
use crate::correlator::Writing;
use crate::{Correlator, Error, EventKind, Occurrence};
use api_client::Clients;
use api_meta::ClusterName;
use clock::Clock;
use http::{Method, Request};
use k8s_openapi::Metadata;
use k8s_openapi::api::core::v1::{Event, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::sync::Arc;
use tokio::sync::mpsc;

/// As upstream's broadcaster; what comes while it is full is dropped.
const BACKLOG: usize = 1000;

#[derive(Clone)]
pub struct Recorder {
    sender: mpsc::Sender<Occurrence>,
}

/// A reference to an object, as Events carry it.
pub fn reference<K: Metadata<Ty = ObjectMeta>>(object: &K) -> ObjectReference {
    let metadata = object.metadata();
    ObjectReference {
        api_version: Some(K::API_VERSION.to_owned()),
        kind: Some(K::KIND.to_owned()),
        name: metadata.name.clone(),
        namespace: metadata.namespace.clone(),
        resource_version: metadata.resource_version.clone(),
        uid: metadata.uid.clone(),
        field_path: None,
    }
}

impl Recorder {
    pub(crate) fn start(clients: Arc<dyn Clients>, clock: Arc<dyn Clock>, component: &'static str) -> Self {
        let (sender, mut receiver) = mpsc::channel::<Occurrence>(BACKLOG);
        tokio::spawn(async move {
            let mut correlator = Correlator::new(component);
            while let Some(occurrence) = receiver.recv().await {
                let Some(writing) = correlator.correlate(&occurrence, clock.now()) else { continue };
                let namespace = occurrence.about.namespace.clone().filter(|n| !n.is_empty()).unwrap_or_else(|| "default".to_owned());
                match write(&*clients, &occurrence.cluster, &namespace, &writing).await {
                    Ok(()) => {}
                    Err(error) if error.is_not_found() && matches!(writing, Writing::Patch { .. }) => {
                        let Writing::Patch { name, .. } = &writing else { continue };
                        correlator.lost(name);
                        if let Some(again) = correlator.correlate(&occurrence, clock.now())
                            && let Err(error) = write(&*clients, &occurrence.cluster, &namespace, &again).await
                        {
                            tracing::debug!(component, %error, "an event could not be written");
                        }
                    }
                    Err(error) => tracing::debug!(component, reason = occurrence.reason, %error, "an event could not be written"),
                }
            }
        });
        Self { sender }
    }

    pub fn normal<K: Metadata<Ty = ObjectMeta>>(&self, cluster: &ClusterName, object: &K, reason: &str, message: impl Into<String>) {
        self.record(cluster, reference(object), EventKind::Normal, reason, message);
    }

    pub fn warning<K: Metadata<Ty = ObjectMeta>>(&self, cluster: &ClusterName, object: &K, reason: &str, message: impl Into<String>) {
        self.record(cluster, reference(object), EventKind::Warning, reason, message);
    }

    pub fn record(&self, cluster: &ClusterName, about: ObjectReference, kind: EventKind, reason: &str, message: impl Into<String>) {
        self.occurred(Occurrence { cluster: cluster.clone(), about, kind, reason: reason.to_owned(), message: message.into(), action: None });
    }

    pub fn occurred(&self, occurrence: Occurrence) {
        if let Err(error) = self.sender.try_send(occurrence) {
            tracing::debug!(%error, "an event was dropped");
        }
    }
}

async fn write(clients: &dyn Clients, cluster: &ClusterName, namespace: &str, writing: &Writing) -> Result<(), Error> {
    let collection = format!("/api/v1/namespaces/{namespace}/events");
    let (method, path, content_type, body) = match writing {
        Writing::Create(event) => (Method::POST, collection, "application/json", serde_json::to_vec(event)?),
        Writing::Patch { name, patch } => (Method::PATCH, format!("{collection}/{name}"), "application/merge-patch+json", serde_json::to_vec(patch)?),
    };
    let request = Request::builder().method(method).uri(path).header(http::header::CONTENT_TYPE, content_type).body(body);
    let request = request.map_err(|error| Error::Request(Box::new(error)))?;
    clients.cluster(cluster).request::<Event>(request).await?;
    Ok(())
}
