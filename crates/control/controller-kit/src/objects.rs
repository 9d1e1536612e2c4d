//! Objects: one kind, read from its cache and written through the API; own writes show in the cache at once.
use crate::{Error, ObjectKey};
use api_cache::{Cache, Cached};
use api_client::Clients;
use api_meta::ClusterName;
use http::{Method, Request};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde_json::{Value, json};
use std::ops::Deref;
use std::sync::Arc;

/// A kind controllers read and write.
pub trait Kind: Cached + Serialize {}
impl<K: Cached + Serialize> Kind for K {}

/// What must still be so for a write to count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preconditions {
    pub uid: Option<String>,
    pub resource_version: Option<String>,
}

impl Preconditions {
    pub fn uid_of(metadata: &ObjectMeta) -> Self {
        Self { uid: metadata.uid.clone(), resource_version: None }
    }
    pub fn exactly(metadata: &ObjectMeta) -> Self {
        Self { uid: metadata.uid.clone(), resource_version: metadata.resource_version.clone() }
    }
}

/// How to delete.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deletion {
    pub preconditions: Preconditions,
    pub grace_period_seconds: Option<i64>,
    /// `Background`, `Foreground` or `Orphan`; the kind's own default when `None`.
    pub propagation: Option<&'static str>,
}

/// Derefs to the cache for reads.
pub struct Objects<K> {
    cache: Arc<Cache<K>>,
    clients: Arc<dyn Clients>,
    manager: &'static str,
}

impl<K> Clone for Objects<K> {
    fn clone(&self) -> Self {
        Self { cache: self.cache.clone(), clients: self.clients.clone(), manager: self.manager }
    }
}

impl<K> Deref for Objects<K> {
    type Target = Arc<Cache<K>>;
    fn deref(&self) -> &Arc<Cache<K>> {
        &self.cache
    }
}

impl<K: Kind> Objects<K> {
    pub fn new(cache: Arc<Cache<K>>, clients: Arc<dyn Clients>, manager: &'static str) -> Self {
        Self { cache, clients, manager }
    }

    /// Creates it in its metadata's namespace.
    pub async fn create(&self, cluster: &ClusterName, object: &K) -> Result<Arc<K>, Error> {
        self.create_whole(cluster, object.metadata().namespace.as_deref().unwrap_or_default(), object).await
    }

    /// Creates it as a value says that may hold more than is kept of the kind.
    pub async fn create_whole(&self, cluster: &ClusterName, namespace: &str, object: &impl Serialize) -> Result<Arc<K>, Error> {
        let path = format!("{}?fieldManager={}", Self::collection(namespace), self.manager);
        self.write(cluster, Method::POST, path, "application/json", serde_json::to_vec(object)?).await
    }

    /// Replaces it. The uid and resourceVersion it carries are preconditions.
    pub async fn replace(&self, cluster: &ClusterName, object: &K) -> Result<Arc<K>, Error> {
        self.replace_part(cluster, object, "").await
    }

    /// Replaces its status; the rest of `object` but uid and resourceVersion does not matter.
    pub async fn replace_status(&self, cluster: &ClusterName, object: &K) -> Result<Arc<K>, Error> {
        self.replace_part(cluster, object, "/status").await
    }

    /// Replaces a subresource (`/status`, `/finalize`) or, with "", the whole.
    pub async fn replace_part(&self, cluster: &ClusterName, object: &K, part: &str) -> Result<Arc<K>, Error> {
        let key = ObjectKey::of(cluster, object.metadata());
        let path = format!("{}{part}?fieldManager={}", Self::path(&key), self.manager);
        self.write(cluster, Method::PUT, path, "application/json", serde_json::to_vec(object)?).await
    }

    /// A JSON merge patch of the object (`part` "") or a subresource ("/status").
    pub async fn patch(&self, key: &ObjectKey, part: &str, patch: &Value, preconditions: &Preconditions) -> Result<Arc<K>, Error> {
        let mut patch = patch.clone();
        if let Some(uid) = &preconditions.uid {
            patch["metadata"]["uid"] = json!(uid);
        }
        if let Some(version) = &preconditions.resource_version {
            patch["metadata"]["resourceVersion"] = json!(version);
        }
        let path = format!("{}{part}?fieldManager={}", Self::path(key), self.manager);
        self.write(&key.cluster, Method::PATCH, path, "application/merge-patch+json", serde_json::to_vec(&patch)?).await
    }

    /// Deletes it. What is gone already is no error.
    pub async fn delete(&self, key: &ObjectKey, deletion: &Deletion) -> Result<(), Error> {
        let mut options = json!({"kind": "DeleteOptions", "apiVersion": "v1"});
        if let Some(seconds) = deletion.grace_period_seconds {
            options["gracePeriodSeconds"] = json!(seconds);
        }
        if let Some(propagation) = deletion.propagation {
            options["propagationPolicy"] = json!(propagation);
        }
        if let Some(uid) = &deletion.preconditions.uid {
            options["preconditions"]["uid"] = json!(uid);
        }
        if let Some(version) = &deletion.preconditions.resource_version {
            options["preconditions"]["resourceVersion"] = json!(version);
        }
        let request = Self::request(Method::DELETE, Self::path(key), "application/json", serde_json::to_vec(&options)?)?;
        let answer: Value = match self.clients.cluster(&key.cluster).request(request).await.map_err(Error::from) {
            Ok(answer) => answer,
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(error),
        };
        if answer["kind"] == "Status" && answer["metadata"]["name"].is_null() {
            // Gone for good; the uid is in the details, or is the one asked for.
            if let Some(uid) = answer["details"]["uid"].as_str().or(deletion.preconditions.uid.as_deref()) {
                self.cache.removed(key, uid);
            }
        } else if answer["metadata"]["deletionTimestamp"].is_null() {
            if let Some(uid) = answer["metadata"]["uid"].as_str() {
                self.cache.removed(key, uid);
            }
        } else {
            // A Namespace is held by finalizers of its own.
            let held = |part: &str| answer[part]["finalizers"].as_array().is_some_and(|finalizers| !finalizers.is_empty());
            let gone = answer["metadata"]["deletionGracePeriodSeconds"] == 0 && !held("metadata") && !(K::KIND == "Namespace" && held("spec"));
            let object: K = serde_json::from_value(answer)?;
            match &object.metadata().uid {
                Some(uid) if gone => self.cache.removed(key, uid),
                _ => drop(self.cache.wrote(&key.cluster, object)),
            }
        }
        Ok(())
    }

    /// Asks the API itself, not the cache. `None` when it does not exist.
    pub async fn fresh(&self, key: &ObjectKey) -> Result<Option<K>, Error> {
        let request = Self::request(Method::GET, Self::path(key), "application/json", Vec::new())?;
        match self.clients.cluster(&key.cluster).request(request).await.map_err(Error::from) {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn write(&self, cluster: &ClusterName, method: Method, path: String, content_type: &str, body: Vec<u8>) -> Result<Arc<K>, Error> {
        let request = Self::request(method, path, content_type, body)?;
        let object: K = self.clients.cluster(cluster).request(request).await?;
        Ok(self.cache.wrote(cluster, object))
    }

    fn request(method: Method, path: String, content_type: &str, body: Vec<u8>) -> Result<Request<Vec<u8>>, Error> {
        let request = Request::builder().method(method).uri(path).header(http::header::CONTENT_TYPE, content_type);
        request.body(body).map_err(|error| Error::Request(Box::new(error)))
    }

    fn collection(namespace: &str) -> String {
        let root = if K::GROUP.is_empty() { "/api" } else { "/apis" };
        let namespace = if namespace.is_empty() { String::new() } else { format!("/namespaces/{namespace}") };
        format!("{root}/{}{namespace}/{}", K::API_VERSION, K::URL_PATH_SEGMENT)
    }

    fn path(key: &ObjectKey) -> String {
        format!("{}/{}", Self::collection(&key.namespace), key.name)
    }
}
