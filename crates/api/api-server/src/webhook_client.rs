//! WebhookClient: posts a JSON review to a webhook over HTTPS and gives its answer.
//!
//! Where it is comes from an `admissionregistration`/`apiextensions` WebhookClientConfig: a URL, or a
//! Service, which is reached at one of its ready endpoints under its name in the cluster.
use api_meta::{ClusterName, GroupResource, Labels};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use store::{Key, RangeRequest, Scope, Store};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// More than any review's answer may have, in bytes.
const ANSWER_LIMIT: usize = 128 << 20;
/// Where a machine keeps the authorities it trusts, for webhooks that name none of their own.
const SYSTEM_AUTHORITIES: [&str; 3] = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// Why a webhook gave no answer, in Go's words where there are any.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    #[error("{0}")]
    Config(String),
    #[error("Post {url:?}: {why}")]
    Post { url: String, why: String },
    #[error("the server responded with the status code {code} but did not return more details")]
    Code { code: u16 },
}

pub struct WebhookClient {
    store: Arc<dyn Store>,
}

/// A webhook, found.
struct Target {
    /// As messages name it.
    url: String,
    /// What its certificate must be for.
    host: String,
    authority: String,
    path: String,
    address: Address,
}

enum Address {
    Named(String, u16),
    At(SocketAddr),
}

impl WebhookClient {
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// Posts `body` (JSON). Errors: a configuration that leads nowhere, no connection, no answer in time, or none of success.
    pub async fn post(&self, cluster: &ClusterName, config: &Value, body: Vec<u8>, timeout: Duration) -> Result<Bytes, WebhookError> {
        let target = self.target(cluster, config, timeout).await?;
        let failed = |why: String| WebhookError::Post { url: target.url.clone(), why };
        match tokio::time::timeout(timeout, exchange(&target, config, body)).await {
            Ok(Ok((200..300, bytes))) => Ok(bytes),
            Ok(Ok((code, _))) => Err(WebhookError::Code { code }),
            Ok(Err(why)) => Err(failed(why)),
            Err(_) => Err(failed("context deadline exceeded".into())),
        }
    }

    async fn target(&self, cluster: &ClusterName, config: &Value, timeout: Duration) -> Result<Target, WebhookError> {
        let wait = format!("timeout={}s", timeout.as_secs());
        if let Some(url) = config["url"].as_str() {
            let bad = || WebhookError::Config(format!("parse {url:?}: not an https URL"));
            let uri: http::Uri = url.parse().map_err(|_| bad())?;
            let host = uri.host().filter(|_| uri.scheme_str() == Some("https")).ok_or_else(bad)?.trim_matches(['[', ']']).to_owned();
            let port = uri.port_u16().unwrap_or(443);
            let path = uri.path_and_query().map_or("/", |path| path.as_str());
            let path = format!("{path}{}{wait}", if path.contains('?') { '&' } else { '?' });
            let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
            return Ok(Target { url: format!("https://{authority}{path}"), address: Address::Named(host.clone(), port), host, authority, path });
        }
        let service = &config["service"];
        let text = |field: &str| service[field].as_str().unwrap_or_default();
        let (namespace, name) = (text("namespace"), text("name"));
        let port = service["port"].as_u64().and_then(|port| u16::try_from(port).ok()).unwrap_or(443);
        let host = format!("{name}.{namespace}.svc");
        let own_path = text("path");
        let path = format!("/{}?{wait}", own_path.trim_start_matches('/'));
        let authority = format!("{host}:{port}");
        let url = format!("https://{authority}{path}");
        let address = self.endpoint(cluster, namespace, name, port).await.map_err(|why| WebhookError::Post { url: url.clone(), why })?;
        Ok(Target { url, host, authority, path, address: Address::At(address) })
    }

    /// A ready endpoint of a Service's port, at random.
    async fn endpoint(&self, cluster: &ClusterName, namespace: &str, name: &str, port: u16) -> Result<SocketAddr, String> {
        let key = Key::new(cluster, &GroupResource::new("", "services"), namespace, name);
        let service = self.store.get(&key).await.map_err(|error| error.to_string())?.ok_or_else(|| format!("service {name:?} not found"))?;
        let service = crate::stored::stored(&service).object.to_value();
        let ports = service["spec"]["ports"].as_array();
        let wanted = ports.into_iter().flatten().find(|one| one["port"] == port).ok_or_else(|| format!("no service port {port} found for service {name:?}"))?;
        let scope =
            Scope::Resource { cluster: cluster.clone(), resource: GroupResource::new("discovery.k8s.io", "endpointslices"), namespace: Some(namespace.into()) };
        let slices = self.store.range(RangeRequest { scope, after: None, limit: 0, revision: None }).await.map_err(|error| error.to_string())?;
        let mut addresses: Vec<SocketAddr> = Vec::new();
        for record in &slices.records {
            let object = &crate::stored::stored(record).object;
            if object.meta().labels.label("kubernetes.io/service-name") != Some(name) {
                continue;
            }
            let slice = object.to_value();
            let port_name = wanted["name"].as_str().unwrap_or_default();
            let port = slice["ports"].as_array().into_iter().flatten().find(|one| one["name"].as_str().unwrap_or_default() == port_name);
            let Some(port) = port.and_then(|port| u16::try_from(port["port"].as_u64()?).ok()) else { continue };
            let ready = slice["endpoints"].as_array().into_iter().flatten().filter(|endpoint| endpoint["conditions"]["ready"] != Value::Bool(false));
            addresses.extend(ready.filter_map(|endpoint| endpoint["addresses"][0].as_str()?.parse().ok()).map(|ip: IpAddr| SocketAddr::new(ip, port)));
        }
        let chosen = usize::from(u16::from_le_bytes(clock::random_bytes())).checked_rem(addresses.len());
        chosen.map(|chosen| addresses[chosen]).ok_or_else(|| format!("no endpoints available for service {name:?}"))
    }
}

async fn exchange(target: &Target, config: &Value, body: Vec<u8>) -> Result<(u16, Bytes), String> {
    let authorities = match config["caBundle"].as_str().filter(|bundle| !bundle.is_empty()) {
        Some(bundle) => STANDARD.decode(bundle).ok().and_then(|pem| String::from_utf8(pem).ok()).ok_or("unable to load root certificates: no PEM text")?,
        None => {
            let mut found = String::new();
            for path in SYSTEM_AUTHORITIES {
                if let Ok(pem) = tokio::fs::read_to_string(path).await {
                    found = pem;
                    break;
                }
            }
            found
        }
    };
    let tls = pki::client_config(&authorities, None).map_err(|error| format!("unable to load root certificates: {error}"))?;
    let stream = match &target.address {
        Address::Named(host, port) => TcpStream::connect((host.as_str(), *port)).await,
        Address::At(address) => TcpStream::connect(address).await,
    };
    let stream = stream.map_err(|error| format!("dial tcp {}: connect: {}", target.authority, plain(&error)))?;
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    let name = rustls::pki_types::ServerName::try_from(target.host.clone()).map_err(|error| error.to_string())?;
    let stream = TlsConnector::from(Arc::new(tls)).connect(name, stream).await.map_err(|error| format!("tls: failed to verify certificate: {error}"))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a webhook's connection broke off");
        }
    });
    let request = Request::post(&target.path)
        .header(header::HOST, &target.authority)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/json, */*")
        .header(header::USER_AGENT, "kube-apiserver-admission")
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| error.to_string())?;
    let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
    let code = answer.status().as_u16();
    let body = Limited::new(answer.into_body(), ANSWER_LIMIT).collect().await.map_err(|error| error.to_string())?;
    Ok((code, body.to_bytes()))
}

/// Go's words for the usual ways not to get through.
fn plain(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connection refused".into(),
        std::io::ErrorKind::HostUnreachable => "no route to host".into(),
        _ => error.to_string(),
    }
}
