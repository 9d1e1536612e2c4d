//! Joining: from a token to a node's own identity, which is kept, renewed, and taken up again after a restart.
mod token;

pub use token::JoinToken;

use crate::RemoteClients;
use api_meta::{CA_PATH, ClusterName, NODE_CONFIG_PATH, NodeConfig};
use clock::Clock;
use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, PostParams, WatchEvent, WatchParams};
use pki::{Issued, PkiError, Renewable};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const SERVING_SIGNER: &str = "kubernetes.io/kubelet-serving";
const PUBLIC: u32 = 0o644;
const SECRET: u32 = 0o600;
/// How long a request may wait for its certificate before it is asked again.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    #[error("the token can't be used: {0}")]
    Token(&'static str),
    #[error("this machine has not joined yet, so it needs a token")]
    NoToken,
    #[error("the server at {0} is not the one of the token: its authority has another hash")]
    ForeignServer(String),
    #[error("the server does not let this machine join: {0}")]
    Refused(String),
    #[error("the server at {server} can't be reached")]
    Unreachable { server: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("{action} `{path}`")]
    File { action: &'static str, path: PathBuf, source: std::io::Error },
    #[error("the node's certificates")]
    Certificates(#[from] PkiError),
    #[error("{0:?} is no address of a server")]
    Address(String),
}

impl JoinError {
    /// Whether the next try may go better without anybody's doing.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

/// Who joins, and where.
#[derive(Clone, Debug)]
pub struct Joiner {
    /// The address of the cluster, without a slash at its end.
    pub server: String,
    pub token: Option<String>,
    pub node_name: String,
    /// Where the node's identity is kept.
    pub directory: PathBuf,
}

/// What is remembered of a join.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Joined {
    server: String,
    config: NodeConfig,
}

/// A node of a cluster.
pub struct Membership {
    pub config: NodeConfig,
    pub ca_pem: String,
    /// What the node shows the server.
    pub client: Arc<Renewable>,
    /// What the node's own API shows.
    pub serving: Arc<Renewable>,
    files: Files,
    node_name: String,
    node_ip: IpAddr,
}

#[derive(Clone, Debug)]
struct Files(PathBuf);

impl Files {
    fn read(&self, name: &str) -> Result<Option<String>, JoinError> {
        let path = self.0.join(name);
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(JoinError::File { action: "reading", path, source }),
        }
    }
    fn write(&self, name: &str, text: &str, mode: u32) -> Result<(), JoinError> {
        Ok(pki::write_atomically(&self.0.join(name), text.as_bytes(), mode)?)
    }
    /// The key of this name, made when it is not there. Whose it is, the server remembers with the node's name.
    fn key(&self, name: &str) -> Result<String, JoinError> {
        if let Some(key) = self.read(name)? {
            return Ok(key);
        }
        let key = pki::new_key_pem()?;
        self.write(name, &key, SECRET)?;
        Ok(key)
    }
    fn issued(&self, stem: &str) -> Result<Option<Issued>, JoinError> {
        let (certificate, key) = (self.read(&format!("{stem}.crt"))?, self.read(&format!("{stem}.key"))?);
        Ok(certificate.zip(key).map(|(certificate_pem, key_pem)| Issued { certificate_pem, key_pem }))
    }
}

impl Joiner {
    /// Takes up an earlier join, or joins. `node_ip` is asked for once the server is known to be right.
    ///
    /// # Errors
    /// See [`JoinError::is_transient`].
    pub async fn join(&self, node_ip: IpAddr, clock: &dyn Clock) -> Result<Membership, JoinError> {
        std::fs::create_dir_all(&self.directory).map_err(|source| JoinError::File { action: "creating", path: self.directory.clone(), source })?;
        let files = Files(self.directory.clone());
        let token = self.token.as_deref().map(JoinToken::parse).transpose().map_err(JoinError::Token)?;
        let now = clock.now();
        if let Some(membership) = self.earlier(&files, token.as_ref(), node_ip, now)? {
            return Ok(membership);
        }
        let token = token.ok_or(JoinError::NoToken)?;
        let ca_pem = self.authority(&token).await?;
        let clients = self.clients(&ca_pem, None)?.with_bearer(&token.secret).map_err(|_| JoinError::Token("its secret can't be sent"))?;
        let bootstrap = clients.root();
        let config = self.config(&bootstrap).await?;
        let key = files.key("client-kubelet.key")?;
        let user = format!("system:node:{}", self.node_name);
        let request = pki::request_pem(&user, "system:nodes", &[], &[], &key)?;
        let certificate = self.enroll(&bootstrap, CLIENT_SIGNER, "client auth", request).await?;
        files.write("server-ca.crt", &ca_pem, PUBLIC)?;
        files.write("client-kubelet.crt", &certificate, PUBLIC)?;
        let client = Renewable::new(&Issued { certificate_pem: certificate, key_pem: key })?;
        let joined = Joined { server: self.server.clone(), config: config.clone() };
        let text = serde_json::to_string_pretty(&joined).expect("a configuration encodes");
        let serving = self.serving(&files, &ca_pem, &client, node_ip, now).await?;
        // Last: what is not there in whole is joined again.
        files.write("joined.json", &text, SECRET)?;
        Ok(Membership { config, ca_pem, client, serving, files, node_name: self.node_name.clone(), node_ip })
    }

    fn earlier(&self, files: &Files, token: Option<&JoinToken>, node_ip: IpAddr, now: Timestamp) -> Result<Option<Membership>, JoinError> {
        let joined: Option<Joined> = files.read("joined.json")?.and_then(|text| serde_json::from_str(&text).ok());
        let (Some(joined), Some(ca_pem), Some(client), Some(serving)) =
            (joined, files.read("server-ca.crt")?, files.issued("client-kubelet")?, files.issued("serving-kubelet")?)
        else {
            return Ok(None);
        };
        let der = pki::der_of(&client.certificate_pem)?;
        let is_mine = pki::subject_of(&der)?.common_name == format!("system:node:{}", self.node_name);
        let is_current = pki::validity_of(&client.certificate_pem)?.1 > now;
        if joined.server != self.server || !is_mine || !is_current {
            return Ok(None);
        }
        if token.is_some_and(|token| !token.pins(&ca_pem)) {
            return Err(JoinError::ForeignServer(self.server.clone()));
        }
        // Another address needs another certificate.
        if !pki::addresses_of(&serving.certificate_pem)?.contains(&node_ip) {
            return Ok(None);
        }
        let (client, serving) = (Renewable::new(&client)?, Renewable::new(&serving)?);
        let node_name = self.node_name.clone();
        Ok(Some(Membership { config: joined.config, ca_pem, client, serving, files: files.clone(), node_name, node_ip }))
    }

    fn clients(&self, ca_pem: &str, identity: Option<Arc<Renewable>>) -> Result<RemoteClients, JoinError> {
        let tls = match identity {
            Some(identity) => pki::client_config_renewable(ca_pem, identity)?,
            None => pki::client_config(ca_pem, None)?,
        };
        RemoteClients::new(&self.server, tls).map_err(|_| JoinError::Address(self.server.clone()))
    }

    fn unreachable(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> JoinError {
        JoinError::Unreachable { server: self.server.clone(), source: source.into() }
    }

    fn failed(&self, error: kube::Error) -> JoinError {
        match error {
            kube::Error::Api(status) if status.code < 500 && status.code != 429 => JoinError::Refused(status.message),
            other => self.unreachable(other),
        }
    }

    /// The authority of the server's certificate, asked for without trust and held against the token before any secret is sent.
    async fn authority(&self, token: &JoinToken) -> Result<String, JoinError> {
        // Below a virtual cluster's path nobody is told anything before he says who he is.
        let host = self.server.split("/clusters/").next().unwrap_or(&self.server);
        let clients = RemoteClients::new(host, pki::client_config_unverified()?).map_err(|_| JoinError::Address(self.server.clone()))?;
        let request = http::Request::get(CA_PATH).body(Vec::new()).expect("a plain request");
        let ca_pem = clients.root().request_text(request).await.map_err(|error| self.failed(error))?;
        if !token.pins(&ca_pem) {
            return Err(JoinError::ForeignServer(self.server.clone()));
        }
        if token.ca_hash.is_none() {
            tracing::warn!(server = self.server, "the token does not say which server it is for; whoever answers there is trusted");
        }
        Ok(ca_pem)
    }

    async fn config(&self, client: &kube::Client) -> Result<NodeConfig, JoinError> {
        let request = http::Request::get(NODE_CONFIG_PATH).body(Vec::new()).expect("a plain request");
        client.request(request).await.map_err(|error| self.failed(error))
    }

    async fn serving(&self, files: &Files, ca_pem: &str, client: &Arc<Renewable>, node_ip: IpAddr, now: Timestamp) -> Result<Arc<Renewable>, JoinError> {
        if let Some(issued) = files.issued("serving-kubelet")?
            && pki::validity_of(&issued.certificate_pem).is_ok_and(|(_, end)| end > now)
            && pki::addresses_of(&issued.certificate_pem)?.contains(&node_ip)
            && pki::is_issued_by(&issued.certificate_pem, &self.config(&self.clients(ca_pem, Some(client.clone()))?.root()).await?.client_ca_pem)
        {
            return Ok(Renewable::new(&issued)?);
        }
        let clients = self.clients(ca_pem, Some(client.clone()))?;
        let issued = self.new_serving(files, &clients.root(), node_ip).await?;
        Ok(Renewable::new(&issued)?)
    }

    async fn new_serving(&self, files: &Files, client: &kube::Client, node_ip: IpAddr) -> Result<Issued, JoinError> {
        let key = files.key("serving-kubelet.key")?;
        let user = format!("system:node:{}", self.node_name);
        let request = pki::request_pem(&user, "system:nodes", std::slice::from_ref(&self.node_name), &[node_ip], &key)?;
        let certificate = self.enroll(client, SERVING_SIGNER, "server auth", request).await?;
        files.write("serving-kubelet.crt", &certificate, PUBLIC)?;
        Ok(Issued { certificate_pem: certificate, key_pem: key })
    }

    /// Asks for a certificate and waits for it.
    async fn enroll(&self, client: &kube::Client, signer: &str, usage: &str, request_pem: String) -> Result<String, JoinError> {
        let api: Api<CertificateSigningRequest> = Api::all(client.clone());
        let request = CertificateSigningRequest {
            metadata: ObjectMeta { generate_name: Some("node-csr-".into()), ..Default::default() },
            spec: CertificateSigningRequestSpec {
                request: ByteString(request_pem.into_bytes()),
                signer_name: signer.into(),
                usages: Some(vec!["digital signature".into(), usage.into()]),
                ..Default::default()
            },
            status: None,
        };
        let created = api.create(&PostParams::default(), &request).await.map_err(|error| self.failed(error))?;
        let name = created.metadata.name.unwrap_or_default();
        let waiting = async {
            let parameters = WatchParams::default().fields(&format!("metadata.name={name}"));
            let mut events = api.watch(&parameters, "0").await.map_err(|error| self.failed(error))?.boxed();
            // What was decided before the watch began is not told.
            if let Some(outcome) = outcome(&api.get(&name).await.map_err(|error| self.failed(error))?) {
                return outcome;
            }
            while let Some(event) = events.try_next().await.map_err(|error| self.failed(error))? {
                if let WatchEvent::Added(request) | WatchEvent::Modified(request) = event
                    && let Some(outcome) = outcome(&request)
                {
                    return outcome;
                }
            }
            Err(self.unreachable("the watch ended before there was a certificate"))
        };
        let late = || Err(self.unreachable(format!("certificate request {name:?} has not been approved and signed yet")));
        tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| late())
    }

    /// Renews both certificates before they end, for ever.
    pub async fn keep_current(&self, membership: Arc<Membership>, clock: Arc<dyn Clock>) {
        let Membership { client, serving, .. } = &*membership;
        // An earlier join's may be due already.
        let renew = || self.renew(&membership, &*clock);
        pki::keep_current(clock.clone(), &[client, serving], Timestamp::MIN, renew).await;
    }

    /// Renews what is due, and gives the time when the next will be.
    async fn renew(&self, membership: &Membership, clock: &dyn Clock) -> Result<Timestamp, JoinError> {
        let Membership { files, ca_pem, client, serving, node_name, node_ip, .. } = membership;
        let due = |stem: &str| -> Result<Timestamp, JoinError> {
            let Some(issued) = files.issued(stem)? else { return Ok(Timestamp::MIN) };
            Ok(pki::renewal_of(&issued.certificate_pem)?)
        };
        let clients = self.clients(ca_pem, Some(client.clone()))?;
        if clock.now() >= due("client-kubelet")? {
            let key = files.key("client-kubelet.key")?;
            let request = pki::request_pem(&format!("system:node:{node_name}"), "system:nodes", &[], &[], &key)?;
            let certificate_pem = self.enroll(&clients.root(), CLIENT_SIGNER, "client auth", request).await?;
            files.write("client-kubelet.crt", &certificate_pem, PUBLIC)?;
            client.replace(&Issued { certificate_pem, key_pem: key })?;
            tracing::info!("the node's client certificate was renewed");
        }
        if clock.now() >= due("serving-kubelet")? {
            let issued = self.new_serving(files, &clients.root(), *node_ip).await?;
            serving.replace(&issued)?;
            tracing::info!("the node's serving certificate was renewed");
        }
        Ok(due("client-kubelet")?.min(due("serving-kubelet")?))
    }
}

impl Membership {
    /// Clients of the cluster as this node.
    pub fn clients(&self, server: &str) -> Result<Arc<RemoteClients>, JoinError> {
        let tls = pki::client_config_renewable(&self.ca_pem, self.client.clone())?;
        RemoteClients::new(server, tls).map(Arc::new).map_err(|_| JoinError::Address(server.to_owned()))
    }

    /// The ranges of the node's pods that were known last, one of each family; none when nobody knew.
    pub fn known_pod_cidrs(&self) -> Vec<ipnet::IpNet> {
        let text = self.files.read("pod-cidr").ok().flatten().unwrap_or_default();
        text.split(',').filter_map(|range| range.trim().parse().ok()).collect()
    }

    pub fn remember_pod_cidrs(&self, ranges: &[ipnet::IpNet]) -> Result<(), JoinError> {
        self.files.write("pod-cidr", &ranges.iter().map(ToString::to_string).collect::<Vec<_>>().join(","), PUBLIC)
    }
}

/// What became of a request; `None` while that is open.
fn outcome(request: &CertificateSigningRequest) -> Option<Result<String, JoinError>> {
    let status = request.status.as_ref()?;
    if let Some(refusal) = status.conditions.iter().flatten().find(|condition| matches!(condition.type_.as_str(), "Denied" | "Failed")) {
        return Some(Err(JoinError::Refused(refusal.message.clone().unwrap_or_default())));
    }
    let certificate = status.certificate.as_ref().filter(|certificate| !certificate.0.is_empty())?;
    Some(Ok(String::from_utf8_lossy(&certificate.0).into_owned()))
}

/// The cluster a client stands for when nothing else is said.
impl RemoteClients {
    fn root(&self) -> kube::Client {
        crate::Clients::cluster(self, &ClusterName::root())
    }
}
