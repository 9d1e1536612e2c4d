//! Secrets and snapshots of a Cluster's namespace: those it names, and those made for it. Read when they are needed; no copy is kept.
use super::provision::owned;
use crate::kinds::{Cluster, MANAGER};
use crate::names;
use api_client::join::JoinToken;
use api_client::{JoinSecret, KeyPair, is_not_found, kube};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use controller_kit::Error;
use http::{Method, Request, header};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::BTreeMap;

pub struct Secrets<'a> {
    /// Of the host cluster.
    pub client: kube::Client,
    pub cluster: &'a Cluster,
}

impl Secrets<'_> {
    /// The authority for client certificates that the Cluster names.
    pub async fn client_authority(&self) -> Result<Option<KeyPair>, Error> {
        let Some(custom) = self.cluster.spec.custom_cas.as_ref().filter(|custom| custom.enabled) else { return Ok(None) };
        let name = &custom.sources.client_ca.secret_name;
        let values = self.values(name).await?;
        let text = |key: &str| values.get(key).cloned().ok_or_else(|| Error::NotYet(format!("secret {name:?} has no {key:?}")));
        Ok(Some(KeyPair { certificate_pem: text("tls.crt")?, key_pem: text("tls.key")? }))
    }

    pub async fn check_token(&self, name: &str) -> Result<(), Error> {
        match self.values(name).await?.get("token") {
            Some(token) if !token.is_empty() => Ok(()),
            _ => Err(Error::NotYet(format!("no token field in secret {name:?}"))),
        }
    }

    /// Makes the token that machines join with, unless it is there.
    pub async fn ensure_token(&self) -> Result<(), Error> {
        let token: String = clock::random_bytes::<16>().iter().map(|byte| format!("{byte:02x}")).collect();
        let name = names::token(self.cluster.metadata.name.as_deref().unwrap_or_default());
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": owned(self.cluster, &name), "stringData": {"token": token}});
        match create::<Value>(&self.client, &self.path(""), &secret).await {
            Err(error) if !error.is_already_exists() => Err(error),
            _ => Ok(()),
        }
    }

    /// What machines join with: the token of the Secret that the Cluster names, else of the one made for it.
    pub async fn join_secret(&self) -> Result<JoinSecret, Error> {
        let own = || names::token(self.cluster.metadata.name.as_deref().unwrap_or_default());
        let name = self.cluster.spec.token_secret_ref.as_ref().map_or_else(own, |reference| reference.name.clone());
        let token = self.values(&name).await?.remove("token").unwrap_or_default();
        let parsed = JoinToken::parse(&token).map_err(|why| Error::NotYet(format!("the token of secret {name:?} can't be used: {why}")))?;
        Ok(JoinSecret(parsed.secret))
    }

    /// The token made for the cluster as machines need it, which says which server it is for, beside itself.
    pub async fn write_node_token(&self, token: &str) -> Result<(), Error> {
        let name = names::token(self.cluster.metadata.name.as_deref().unwrap_or_default());
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": owned(self.cluster, &name), "stringData": {"node-token": token}});
        self.write::<Value>(&secret).await.map(drop)
    }

    /// The values of a Secret that are text.
    pub async fn values(&self, name: &str) -> Result<BTreeMap<String, String>, Error> {
        let request = request(Method::GET, &self.path(name), Vec::new(), "application/json")?;
        let secret: Value = match self.client.request(request).await {
            Err(error) if is_not_found(&error) => return Err(Error::NotYet(format!("secret {name:?} not found"))),
            found => found?,
        };
        let text = |value: &Value| String::from_utf8(STANDARD.decode(value.as_str()?).ok()?).ok();
        Ok(secret["data"].as_object().into_iter().flatten().filter_map(|(key, value)| Some((key.clone(), text(value)?))).collect())
    }

    /// The id of a snapshot of the Cluster's namespace.
    pub async fn snapshot(&self, name: &str) -> Result<String, Error> {
        let namespace = self.cluster.metadata.namespace.as_deref().unwrap_or_default();
        let path = format!("/apis/k8shost.io/v1/namespaces/{namespace}/clustersnapshots/{name}");
        let snapshot: Value = match self.client.request(request(Method::GET, &path, Vec::new(), "application/json")?).await {
            Err(error) if is_not_found(&error) => return Err(Error::NotYet(format!("snapshot {name:?} not found"))),
            found => found?,
        };
        match (snapshot["status"]["phase"].as_str(), snapshot["metadata"]["uid"].as_str()) {
            (Some("Ready"), Some(uid)) => Ok(uid.to_owned()),
            _ => Err(Error::NotYet(format!("snapshot {name:?} is not ready"))),
        }
    }

    /// Creates a Secret, or makes the one of its name like it.
    pub async fn write<K: DeserializeOwned>(&self, secret: &Value) -> Result<K, Error> {
        match create(&self.client, &self.path(""), secret).await {
            Err(error) if error.is_already_exists() => {
                let path = self.path(secret["metadata"]["name"].as_str().unwrap_or_default());
                let request = request(Method::PATCH, &written(&path), serde_json::to_vec(secret)?, "application/merge-patch+json")?;
                Ok(self.client.request(request).await?)
            }
            done => done,
        }
    }

    fn path(&self, name: &str) -> String {
        let collection = format!("/api/v1/namespaces/{}/secrets", self.cluster.metadata.namespace.as_deref().unwrap_or_default());
        if name.is_empty() { collection } else { format!("{collection}/{name}") }
    }
}

pub async fn create<K: DeserializeOwned>(client: &kube::Client, collection: &str, object: &Value) -> Result<K, Error> {
    Ok(client.request(request(Method::POST, &written(collection), serde_json::to_vec(object)?, "application/json")?).await?)
}

pub fn written(path: &str) -> String {
    format!("{path}?fieldManager={MANAGER}")
}

pub fn request(method: Method, path: &str, body: Vec<u8>, media_type: &str) -> Result<Request<Vec<u8>>, Error> {
    let request = Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, media_type);
    request.body(body).map_err(|error| Error::Request(Box::new(error)))
}
