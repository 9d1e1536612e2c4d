//! The server's IAM: its settings, its log, and the address where it answers by itself, if it has one.
use crate::iam_link::IamLink;
use crate::iam_server::shared_secret;
use anyhow::{Context, Result};
use api_meta::ClusterName;
use api_server::audit::{LogFile, LogFileSettings};
use clock::Clock;
use controller_kit::Kit;
use iam::{IamSettings, SigningAlgorithm};
use settings::ServerSettings;
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// What the certificate of those who reach IAM by itself is, and whose they may be.
pub struct OwnTls {
    pub serving: Arc<pki::Renewable>,
    pub client_ca_pem: String,
}

/// Starts IAM on the host cluster, and its controllers.
pub async fn start(
    settings: &ServerSettings,
    kit: Kit,
    link: &IamLink,
    tls: OwnTls,
    clock: &Arc<dyn Clock>,
    shutdown: &CancellationToken,
) -> Result<Vec<JoinHandle<()>>> {
    let client = kit.clients().cluster(&ClusterName::root());
    iam::install(&client).await.context("installing the definitions of IAM")?;
    let audit = audit(&settings.data_dir, clock)?;
    let of_iam = IamSettings {
        signing_algorithm: if settings.iam_signing_algorithm == "RS256" { SigningAlgorithm::Rs256 } else { SigningAlgorithm::Es256 },
        makes_keys: true,
        providers: settings.iam_oidc_config_file.as_deref().map(providers).transpose()?.unwrap_or_default(),
        shared_secret: settings.iam_shared_secret_file.as_deref().map(shared_secret).transpose()?,
        ..IamSettings::default()
    };
    let started = iam::start(of_iam, &**kit.source(), client, clock.clone(), audit).await.context("starting IAM")?;
    link.fill(started.clone());
    let mut tasks = vec![tokio::spawn(projects::run(kit, shutdown.clone()))];
    if let Some(address) = settings.iam_listen {
        let listener = TcpListener::bind(address).await.with_context(|| format!("iam-listen: listening on {address}"))?;
        let tls = pki::server_config_renewable(tls.serving, &[&tls.client_ca_pem], &[b"h2", b"http/1.1"])?;
        tasks.push(tokio::spawn(iam::serve(started, listener, Arc::new(tls), shutdown.clone())));
    }
    Ok(tasks)
}

fn providers(file: &Path) -> Result<Vec<iam::ProviderSettings>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("iam-oidc-config-file {file:?}"))?;
    iam::providers(&text).with_context(|| format!("iam-oidc-config-file {file:?}"))
}

/// The log of decisions, a JSON object a line.
fn audit(data_dir: &Path, clock: &Arc<dyn Clock>) -> Result<iam::AuditSink> {
    let settings = LogFileSettings { path: data_dir.join("server").join("iam-audit.log"), max_age: 0, max_backups: 5, max_size: 100 };
    let log = LogFile::open(settings, clock.clone()).context("the log of IAM's decisions")?;
    Ok(Arc::new(move |entry| log.write(format!("{entry}\n").as_bytes())))
}
