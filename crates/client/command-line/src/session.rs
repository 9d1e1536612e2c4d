//! Session: a connection to the host cluster, for one command.
use crate::Connection;
use anyhow::{Context, Result, bail};
use api_client::kube;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{Method, Request, header};
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::Value;
use std::path::Path;

/// Where `k8shost server` writes its administrator's.
const ADMINISTRATOR: &str = "/etc/k8shost/kubeconfig.yaml";
pub struct Session {
    pub client: kube::Client,
    /// `host:port` of the server, as it is reached from here.
    pub server: String,
    /// Who writes, in managed fields.
    manager: &'static str,
    /// Where a path leads to for who is not the platform's.
    place: Option<fn(&str) -> String>,
}

impl Session {
    /// The server of the kubeconfig that would be used, and the authority of its certificate (PEM).
    pub fn server_of(connection: &Connection) -> Result<(String, String)> {
        let kubeconfig = kubeconfig_of(connection)?;
        let named = kubeconfig.clusters.iter().find_map(|named| named.cluster.clone()).context("the kubeconfig names no cluster")?;
        let authority = match (&named.certificate_authority_data, &named.certificate_authority) {
            (Some(data), _) => String::from_utf8(STANDARD.decode(data).context("the kubeconfig's authority")?)?,
            (None, Some(file)) => std::fs::read_to_string(file).with_context(|| format!("authority {file:?}"))?,
            (None, None) => bail!("the kubeconfig names no authority"),
        };
        Ok((named.server.context("the kubeconfig names no server")?.trim_end_matches('/').to_owned(), authority))
    }

    /// A connection to a server (`https://HOST:PORT`) whose certificate this authority has signed, with a bearer token or as nobody.
    pub fn with_token(server: &str, authority_pem: &str, token: Option<&str>, manager: &'static str) -> Result<Self> {
        let mut config = kube::Config::new(server.parse().with_context(|| format!("server {server:?}"))?);
        config.root_cert = Some(certificates(authority_pem)?);
        config.auth_info = AuthInfo { token: token.map(|token| token.to_owned().into()), ..AuthInfo::default() };
        let authority = config.cluster_url.authority().context("the server has no host")?;
        let server = format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(443));
        Ok(Self { client: kube::Client::try_from(config)?, server, manager, place: None })
    }

    pub async fn open(connection: &Connection, manager: &'static str) -> Result<Self> {
        Self::of_kubeconfig(kubeconfig_of(connection)?, manager).await
    }

    /// A connection by the text of a kubeconfig.
    pub async fn of_text(kubeconfig: &str, manager: &'static str) -> Result<Self> {
        Self::of_kubeconfig(Kubeconfig::from_yaml(kubeconfig).context("the kubeconfig")?, manager).await
    }

    async fn of_kubeconfig(kubeconfig: Kubeconfig, manager: &'static str) -> Result<Self> {
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.context("using the kubeconfig")?;
        let authority = config.cluster_url.authority().context("the kubeconfig names no server")?;
        let server = format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(443));
        Ok(Self { client: kube::Client::try_from(config)?, server, manager, place: None })
    }

    /// The same, with requests to a path sent to where `place` says.
    #[must_use]
    pub fn placed(mut self, place: fn(&str) -> String) -> Self {
        self.place = Some(place);
        self
    }

    /// Whether paths lead elsewhere.
    pub fn is_placed(&self) -> bool {
        self.place.is_some()
    }

    pub async fn get(&self, path: &str) -> Result<Value, kube::Error> {
        self.ask(Method::GET, path, None, "application/json").await
    }

    pub async fn create(&self, collection: &str, object: &Value) -> Result<Value, kube::Error> {
        self.ask(Method::POST, &format!("{collection}?fieldManager={}", self.manager), Some(object), "application/json").await
    }

    /// A JSON merge patch.
    pub async fn patch(&self, path: &str, patch: &Value) -> Result<Value, kube::Error> {
        self.ask(Method::PATCH, &format!("{path}?fieldManager={}", self.manager), Some(patch), "application/merge-patch+json").await
    }

    /// Server-side apply, which takes over what others had set.
    pub async fn apply(&self, path: &str, object: &Value) -> Result<Value, kube::Error> {
        self.ask(Method::PATCH, &format!("{path}?fieldManager={}&force=true", self.manager), Some(object), "application/apply-patch+yaml").await
    }

    pub async fn delete(&self, path: &str) -> Result<Value, kube::Error> {
        self.ask(Method::DELETE, path, None, "application/json").await
    }

    async fn ask(&self, method: Method, path: &str, body: Option<&Value>, media_type: &str) -> Result<Value, kube::Error> {
        let body = body.map(Value::to_string).unwrap_or_default().into_bytes();
        let path = self.place.map_or_else(|| path.to_owned(), |place| place(path));
        let request = Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, media_type);
        self.client.request(request.body(body).map_err(kube::Error::HttpError)?).await
    }

    /// The server's own table of a collection.
    pub async fn table(&self, path: &str) -> Result<Value> {
        let request = Request::get(path).header(header::ACCEPT, "application/json;as=Table;v=v1;g=meta.k8s.io").body(Vec::new())?;
        Ok(self.client.request(request).await?)
    }
}

fn kubeconfig_of(connection: &Connection) -> Result<Kubeconfig> {
    Ok(match &connection.kubeconfig {
        Some(path) => Kubeconfig::read_from(path).with_context(|| format!("kubeconfig {path:?}"))?,
        None => match Kubeconfig::from_env().context("the kubeconfig that $KUBECONFIG names")? {
            Some(kubeconfig) => kubeconfig,
            None => Kubeconfig::read_from(Path::new(ADMINISTRATOR)).with_context(|| format!("kubeconfig {ADMINISTRATOR:?}"))?,
        },
    })
}

/// The DER certificates of a PEM text.
fn certificates(pem: &str) -> Result<Vec<Vec<u8>>> {
    let all: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().context("the authority's certificate")?;
    Ok(all.iter().map(|der| der.to_vec()).collect())
}
