//! Api: a control plane and what it takes to talk to it as its administrator.
use crate::http1::{Http1, request};
use crate::process::ControlPlane;
use anyhow::{Context, Result, bail};
use clock::{Clock, SystemClock};
use rustls::ClientConfig;
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// Longest wait for a server to be ready.
const START_TIMEOUT: Duration = Duration::from_secs(120);

pub struct Api {
    pub server: ControlPlane,
    /// From the start of the process to the first `/readyz` that said yes.
    pub start: Duration,
}

/// A data directory, on the disk where temporary files are.
pub fn directory() -> Result<TempDir> {
    Ok(TempDir::with_prefix("k8shost-bench-")?)
}

impl Api {
    /// Starts a control plane over `data` and waits until it is ready.
    pub async fn start(data: &Path) -> Result<Self> {
        let mut server = ControlPlane::start(data)?;
        let start = until_ready(&mut server).await?;
        Ok(Self { server, start })
    }

    /// The administrator's TLS, for these protocols.
    pub fn tls(&self, alpn: &[&[u8]]) -> Result<Arc<ClientConfig>> {
        tls(&self.server, alpn)
    }

    pub async fn connect(&self) -> Result<Http1> {
        Http1::connect(self.server.port, &self.tls(&[b"http/1.1"])?).await
    }

    /// Creates an object; it may be there already.
    pub async fn create(&self, path: &str, object: &Value) -> Result<()> {
        let answer = self.connect().await?.exchange(&request("POST", path, &serde_json::to_vec(object)?)).await?;
        if !matches!(answer.status, 201 | 409) {
            bail!("POST {path}: {}: {}", answer.status, String::from_utf8_lossy(&answer.body));
        }
        Ok(())
    }

    pub async fn get(&self, path: &str) -> Result<Option<Value>> {
        let answer = self.connect().await?.exchange(&request("GET", path, b"")).await?;
        Ok(if answer.status == 200 { Some(serde_json::from_slice(&answer.body)?) } else { None })
    }

    /// A namespace in which pods can be created.
    pub async fn namespace(&self, name: &str) -> Result<()> {
        self.create("/api/v1/namespaces", &serde_json::json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } })).await?;
        let began = SystemClock.instant();
        while self.get(&format!("/api/v1/namespaces/{name}/serviceaccounts/default")).await?.is_none() {
            if SystemClock.instant() - began > Duration::from_secs(30) {
                bail!("namespace {name:?} got no service account");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }
}

fn tls(server: &ControlPlane, alpn: &[&[u8]]) -> Result<Arc<ClientConfig>> {
    let directory = server.tls_directory();
    let read = |name: &str| std::fs::read_to_string(directory.join(name)).with_context(|| format!("reading {name}"));
    let mut config = pki::client_config(&read("server-ca.crt")?, Some((&read("client-admin.crt")?, &read("client-admin.key")?)))?;
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(Arc::new(config))
}

async fn until_ready(server: &mut ControlPlane) -> Result<Duration> {
    let request = request("GET", "/readyz", b"");
    loop {
        // The certificates, the port and readiness come one after the other.
        if let Ok(tls) = tls(server, &[b"http/1.1"])
            && let Ok(mut connection) = Http1::connect(server.port, &tls).await
            && connection.exchange(&request).await.is_ok_and(|answer| answer.status == 200)
        {
            return Ok(SystemClock.instant() - server.started);
        }
        server.check()?;
        if SystemClock.instant() - server.started > START_TIMEOUT {
            bail!("the server was not ready within {START_TIMEOUT:?}");
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
