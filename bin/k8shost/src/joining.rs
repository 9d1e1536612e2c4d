//! What machines need to join: the secret of this server, kept in its data directory, and what nodes are told.
use crate::server_hosting::ServerHosting;
use anyhow::{Context, Result};
use api_client::join::JoinToken;
use api_meta::{ClusterName, NodeConfig};
use async_trait::async_trait;
use controllers::{Signer, TokenSigner};
use settings::ServerSettings;
use std::path::Path;
use std::time::Duration;

const SECRET_MODE: u32 = 0o600;
const LENGTH: usize = 32;

pub fn node_config(settings: &ServerSettings, client_ca_pem: &str) -> NodeConfig {
    NodeConfig {
        cluster_cidr: settings.cluster_cidr,
        service_cidr: settings.service_cidr,
        second_cluster_cidr: settings.second_cluster_cidr,
        second_service_cidr: settings.second_service_cidr,
        cluster_dns: settings.cluster_dns,
        cluster_domain: settings.cluster_domain.clone(),
        virtual_cluster_cidr: settings.virtual_cluster_cidr,
        address: None,
        port: settings.https_listen_port,
        dns_forward: settings.dns_forward.clone(),
        dns_rate_limit: settings.dns_rate_limit,
        external_ip_pool: settings.external_ip_pool.clone(),
        client_ca_pem: client_ca_pem.to_owned(),
    }
}

/// The secret in force: the one that was given, else the one there is, else a new one. Its token is written for people to copy.
pub fn secret(server_dir: &Path, given: Option<&str>, ca_pem: &str) -> Result<String> {
    let path = server_dir.join("token");
    let secret = match given {
        Some(given) => JoinToken::parse(given).map_err(|why| anyhow::anyhow!("token: {why}"))?.secret,
        None => match std::fs::read_to_string(&path) {
            Ok(text) => JoinToken::parse(&text).map_err(|why| anyhow::anyhow!("{path:?}: {why}"))?.secret,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => clock::random_bytes::<LENGTH>().iter().map(|byte| format!("{byte:02x}")).collect(),
            Err(error) => return Err(error).with_context(|| format!("reading {path:?}")),
        },
    };
    for (name, user) in [("token", "server"), ("node-token", "node"), ("agent-token", "node")] {
        let text = format!("{}\n", JoinToken::render(ca_pem, Some(user), &secret));
        let path = server_dir.join(name);
        // Nothing is written where nothing changes.
        if std::fs::read_to_string(&path).ok().as_deref() != Some(text.as_str()) {
            pki::write_atomically(&path, text.as_bytes(), SECRET_MODE)?;
        }
    }
    Ok(secret)
}

#[async_trait]
impl Signer for ServerHosting {
    async fn sign(&self, cluster: &ClusterName, request_pem: &str, usage: pki::Usage, validity: Duration) -> Result<String, String> {
        self.0.sign_certificate(cluster, request_pem, usage, validity).await
    }
}

impl TokenSigner for ServerHosting {
    fn sign(&self, cluster: &ClusterName, namespace: &str, secret: &str, account: &str, account_uid: &str) -> Result<String, String> {
        self.0.legacy_token(cluster, namespace, secret, account, account_uid)
    }
}
