//! Session: a connection to the host cluster, for one command.
use super::Connection;
use anyhow::{Context, Result};
use api_client::kube;
use http::{Method, Request, header};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::Value;
use std::path::Path;

/// Where `k8shost server` writes its administrator's.
const ADMINISTRATOR: &str = "/etc/k8shost/kubeconfig.yaml";
/// Who writes, in managed fields.
const MANAGER: &str = "k3kcli";

pub struct Session {
    pub client: kube::Client,
    /// `host:port` of the server, as it is reached from here.
    pub server: String,
}

impl Session {
    pub async fn open(connection: &Connection) -> Result<Self> {
        let kubeconfig = match &connection.kubeconfig {
            Some(path) => Kubeconfig::read_from(path).with_context(|| format!("kubeconfig {path:?}"))?,
            None => match Kubeconfig::from_env().context("the kubeconfig that $KUBECONFIG names")? {
                Some(kubeconfig) => kubeconfig,
                None => Kubeconfig::read_from(Path::new(ADMINISTRATOR)).with_context(|| format!("kubeconfig {ADMINISTRATOR:?}"))?,
            },
        };
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.context("using the kubeconfig")?;
        let authority = config.cluster_url.authority().context("the kubeconfig names no server")?;
        let server = format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(443));
        Ok(Self { client: kube::Client::try_from(config)?, server })
    }

    pub async fn get(&self, path: &str) -> Result<Value, kube::Error> {
        self.ask(Method::GET, path, None, "application/json").await
    }

    pub async fn create(&self, collection: &str, object: &Value) -> Result<Value, kube::Error> {
        self.ask(Method::POST, &format!("{collection}?fieldManager={MANAGER}"), Some(object), "application/json").await
    }

    /// A JSON merge patch.
    pub async fn patch(&self, path: &str, patch: &Value) -> Result<Value, kube::Error> {
        self.ask(Method::PATCH, &format!("{path}?fieldManager={MANAGER}"), Some(patch), "application/merge-patch+json").await
    }

    pub async fn delete(&self, path: &str) -> Result<Value, kube::Error> {
        self.ask(Method::DELETE, path, None, "application/json").await
    }

    async fn ask(&self, method: Method, path: &str, body: Option<&Value>, media_type: &str) -> Result<Value, kube::Error> {
        let body = body.map(Value::to_string).unwrap_or_default().into_bytes();
        let request = Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, media_type);
        self.client.request(request.body(body).map_err(kube::Error::HttpError)?).await
    }

    /// The server's own table of a collection.
    pub async fn table(&self, path: &str) -> Result<Value> {
        let request = Request::get(path).header(header::ACCEPT, "application/json;as=Table;v=v1;g=meta.k8s.io").body(Vec::new())?;
        Ok(self.client.request(request).await?)
    }
}

/// The path of Clusters in a namespace, or of one of them.
pub fn clusters(namespace: &str, name: &str) -> String {
    let slash = if name.is_empty() { "" } else { "/" };
    format!("/apis/k3k.io/v1beta1/namespaces/{namespace}/clusters{slash}{name}")
}
