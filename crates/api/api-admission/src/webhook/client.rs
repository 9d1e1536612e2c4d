//! Client: one POST to a webhook over TLS, with connections kept for the next.
use super::answer::{Answer, decoded};
use super::client_config::ClientConfig;
use super::target::{Dial, Target};
use crate::Way;
use api_meta::ClusterName;
use api_resource::Lookup;
use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::CertificateError;
use rustls::pki_types::ServerName;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_rustls::TlsConnector;

/// No webhook has more to say than this; one that does is not listened to.
const ANSWER_LIMIT: usize = 8 << 20;
/// Idle connections kept to one webhook.
const IDLE: usize = 8;
/// Where systems keep the authorities they trust.
const SYSTEM_AUTHORITIES: [&str; 3] = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

type Connection = SendRequest<Full<Bytes>>;
/// To whom, on whose word, under which name, and in whose name.
type Peer = (String, Arc<str>, String, Way);

/// Why a webhook gave no review.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// Its configuration leads nowhere.
    #[error("{0}")]
    NoClient(String),
    /// It could not be reached, did not answer in time, or not with a review.
    #[error("{0}")]
    Call(String),
}

/// Posts reviews to webhooks.
#[derive(Default)]
pub struct WebhookClient {
    idle: Mutex<HashMap<Peer, Vec<Connection>>>,
    trust: Mutex<HashMap<Arc<str>, Arc<rustls::ClientConfig>>>,
}

impl WebhookClient {
    /// Posts a review (JSON) and gives the review in the answer. A Service is looked for in the cluster.
    ///
    /// # Errors
    /// Worded as Go's client words them.
    pub async fn ask(
        &self,
        config: &ClientConfig,
        (cluster, way): (&ClusterName, Way),
        lookup: &dyn Lookup,
        review: Vec<u8>,
        timeout: Duration,
    ) -> Result<Value, WebhookError> {
        let target = Target::of(&config.address).map_err(WebhookError::NoClient)?;
        let query = format!("timeout={}s", timeout.as_secs().max(1));
        let failed = |why: String| WebhookError::Call(format!("Post {:?}: {why}", format!("{}?{query}", target.url)));
        let exchange = async {
            let dial = target.dial(&config.address, cluster, lookup).await?;
            self.post(&target, (dial, way), &config.authority, &query, review).await
        };
        let answer = tokio::time::timeout(timeout, exchange).await.map_err(|_| failed("context deadline exceeded".into()))?.map_err(failed)?;
        decoded(&answer).map_err(WebhookError::Call)
    }

    /// Errors lack the URL.
    async fn post(&self, target: &Target, (dial, way): (Dial, Way), authority: &str, query: &str, body: Vec<u8>) -> Result<Answer, String> {
        let place = match &dial {
            Dial::Name(host, port) => format!("{host}:{port}"),
            Dial::At(address) => address.to_string(),
        };
        let authority: Arc<str> = authority.into();
        let peer: Peer = (place, authority.clone(), target.host.clone(), way);
        let body = Bytes::from(body);
        let request = || {
            Request::post(format!("{}?{query}", target.path))
                .header(header::HOST, format!("{}:{}", target.host, target.port))
                .header(header::CONTENT_TYPE, "application/json")
                .header(header::ACCEPT, "application/json, */*")
                .header(header::USER_AGENT, "kube-apiserver-admission")
                .body(Full::new(body.clone()))
                .map_err(|error| error.to_string())
        };
        // A kept connection may have been closed by the other side meanwhile: then a new one is made.
        while let Some(mut connection) = self.kept(&peer) {
            if connection.ready().await.is_err() {
                continue;
            }
            match connection.try_send_request(request()?).await {
                Ok(answer) => return self.finish(peer, connection, answer).await,
                Err(error) if error.error().is_closed() || error.error().is_canceled() || error.error().is_incomplete_message() => continue,
                Err(error) => return Err(worded(&error.into_error())),
            }
        }
        let mut connection = self.connect(dial, &peer).await?;
        let answer = connection.send_request(request()?).await.map_err(|error| worded(&error))?;
        self.finish(peer, connection, answer).await
    }

    fn kept(&self, peer: &Peer) -> Option<Connection> {
        let mut idle = self.idle.lock();
        let connections = idle.get_mut(peer)?;
        let connection = connections.pop();
        if connections.is_empty() {
            idle.remove(peer);
        }
        connection
    }

    async fn finish(&self, peer: Peer, connection: Connection, answer: http::Response<hyper::body::Incoming>) -> Result<Answer, String> {
        let (parts, body) = answer.into_parts();
        let collected = Limited::new(body, ANSWER_LIMIT).collect().await.map_err(|error| error.to_string())?;
        let mut idle = self.idle.lock();
        let connections = idle.entry(peer).or_default();
        if connections.len() < IDLE {
            connections.push(connection);
        }
        Ok(Answer { code: parts.status, body: collected.to_bytes() })
    }

    async fn connect(&self, dial: Dial, peer: &Peer) -> Result<Connection, String> {
        let tls = self.trusting(&peer.1)?;
        let connected = match dial {
            Dial::Name(host, port) => peer.3.connect(&host, port).await,
            Dial::At(address) => peer.3.connect_to(address).await,
        };
        let stream = connected.map_err(|error| format!("dial tcp {}: {}", peer.0, dial_error(&error)))?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let name = ServerName::try_from(peer.2.clone()).map_err(|error| format!("tls: {error}"))?;
        let stream = TlsConnector::from(tls).connect(name, stream).await.map_err(|error| tls_error(&error, &peer.2))?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|error| worded(&error))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to a webhook ended");
            }
        });
        Ok(sender)
    }

    fn trusting(&self, authority: &Arc<str>) -> Result<Arc<rustls::ClientConfig>, String> {
        if let Some(known) = self.trust.lock().get(authority) {
            return Ok(known.clone());
        }
        let system;
        let pem = if authority.is_empty() {
            system = system_authorities();
            &system
        } else {
            &**authority
        };
        let configuration = pki::client_config(pem, None).map_err(|error| format!("unable to load root certificates: {error}"))?;
        let configuration = Arc::new(configuration);
        let mut trust = self.trust.lock();
        // Authorities that were replaced are not kept for ever.
        if trust.len() >= 256 {
            trust.clear();
        }
        trust.insert(authority.clone(), configuration.clone());
        Ok(configuration)
    }
}

/// The authorities this machine trusts, in PEM; "" when it keeps none where systems do.
pub fn system_authorities() -> String {
    SYSTEM_AUTHORITIES.iter().find_map(|path| std::fs::read_to_string(path).ok()).unwrap_or_default()
}

fn dial_error(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connect: connection refused".into(),
        std::io::ErrorKind::HostUnreachable => "connect: no route to host".into(),
        std::io::ErrorKind::NetworkUnreachable => "connect: network is unreachable".into(),
        _ => error.to_string(),
    }
}

fn tls_error(error: &std::io::Error, name: &str) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let failed = |why: String| format!("tls: failed to verify certificate: x509: {why}");
    match inner {
        Some(rustls::Error::InvalidCertificate(why)) => match why {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => failed("certificate signed by unknown authority".into()),
            CertificateError::Expired | CertificateError::ExpiredContext { .. } | CertificateError::NotValidYet => {
                failed("certificate has expired or is not yet valid".into())
            }
            CertificateError::NotValidForName => failed(format!("certificate is not valid for {name}")),
            CertificateError::NotValidForNameContext { presented, .. } => {
                let names: Vec<String> = presented.iter().map(|name| plain_name(name)).collect();
                failed(format!("certificate is valid for {}, not {name}", names.join(", ")))
            }
            other => failed(other.to_string()),
        },
        Some(rustls::Error::InvalidMessage(_)) => "http: server gave HTTP response to HTTPS client".into(),
        _ if error.kind() == std::io::ErrorKind::UnexpectedEof => "EOF".into(),
        _ => error.to_string(),
    }
}

/// `DnsName("a")` as `a`.
fn plain_name(shown: &str) -> String {
    shown.split('(').nth(1).unwrap_or(shown).trim_end_matches(')').trim_matches('"').to_owned()
}

fn worded(error: &hyper::Error) -> String {
    if error.is_incomplete_message() || error.is_closed() {
        return "EOF".into();
    }
    if error.is_parse() {
        return format!("net/http: HTTP/1.x transport connection broken: malformed HTTP response: {error}");
    }
    error.to_string()
}
