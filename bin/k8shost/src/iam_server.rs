//! `k8shost iam-server`: IAM alone, for API servers that ask it over HTTPS; its directory is a k8shost's.
use crate::notify::notify;
use crate::service_alone::CertificateArgs;
use anyhow::{Context, Result, ensure};
use api_cache::RemoteSource;
use api_client::{client_of_kubeconfig, kube};
use api_server::audit::{LogFile, LogFileSettings};
use clap::Args;
use clock::{Clock, SystemClock};
use iam::IamSettings;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

#[derive(Args, Clone, Debug)]
pub struct IamServerArgs {
    /// The kubeconfig of the cluster that holds IAM's data
    #[arg(long, value_name = "FILE", default_value = "/etc/k8shost/kubeconfig.yaml")]
    kubeconfig: PathBuf,
    /// Where to listen
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:3000")]
    listen: SocketAddr,
    /// Where, unless one is given, the certificate and its authority are kept
    #[arg(long, value_name = "DIRECTORY", default_value = "/var/lib/k8shost/iam-server")]
    data_dir: PathBuf,
    #[command(flatten)]
    certificate: CertificateArgs,
    /// The authority of the certificates of those who may ask for reviews
    #[arg(long, value_name = "FILE")]
    client_ca_file: PathBuf,
    /// The log of decisions, a JSON object a line
    #[arg(long, value_name = "FILE")]
    audit_log_path: PathBuf,
    /// Accept tokens that are signed with the secret in this file (HS256) too
    #[arg(long, value_name = "FILE")]
    shared_secret_file: Option<PathBuf>,
    /// Reviews a second that one client may ask for
    #[arg(long, default_value_t = IamSettings::default().reviews_per_second)]
    reviews_per_second: u32,
}

pub fn main(args: &IamServerArgs) -> Result<()> {
    telemetry::init();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(run(args));
    runtime.shutdown_timeout(Duration::from_secs(5));
    result
}

/// The secret in a file, without the end of its line.
pub fn shared_secret(file: &Path) -> Result<Vec<u8>> {
    let secret = std::fs::read_to_string(file).with_context(|| format!("shared secret {file:?}"))?.trim_end().as_bytes().to_vec();
    // RFC 7518, 3.2: as many bits as the hash has.
    ensure!(secret.len() >= 32, "shared secret {file:?} has {} bytes, and needs 32", secret.len());
    Ok(secret)
}

async fn run(args: &IamServerArgs) -> Result<()> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let text = |path: &Path| std::fs::read_to_string(path).with_context(|| format!("file {path:?}"));
    let authority = text(&args.client_ca_file)?;
    let shown = args.certificate.shown("iam-server", &args.data_dir, clock.clone())?;
    let tls = pki::server_config_renewable(shown, &[&authority], &[b"h2", b"http/1.1"])?;
    let shared_secret = args.shared_secret_file.as_deref().map(shared_secret).transpose()?;
    let settings = IamSettings { shared_secret, reviews_per_second: args.reviews_per_second, ..IamSettings::default() };
    let listener = TcpListener::bind(args.listen).await.with_context(|| format!("listening on {}", args.listen))?;
    let kubeconfig = kube::config::Kubeconfig::read_from(&args.kubeconfig).with_context(|| format!("kubeconfig {:?}", args.kubeconfig))?;
    let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await?;
    // Watches last for as long as the server lets them.
    config.read_timeout = None;
    let client = client_of_kubeconfig(config, &args.kubeconfig).with_context(|| format!("kubeconfig {:?}", args.kubeconfig))?;
    iam::install(&client).await.context("installing the definitions of IAM")?;
    let log = LogFileSettings { path: args.audit_log_path.clone(), max_age: 0, max_backups: 5, max_size: 100 };
    let log = LogFile::open(log, clock.clone()).context("the log of decisions")?;
    let audit: iam::AuditSink = Arc::new(move |entry| log.write(format!("{entry}\n").as_bytes()));
    let iam = iam::start(settings, &RemoteSource::new(client.clone(), false), client, clock, audit).await.context("starting IAM")?;
    let stop = CancellationToken::new();
    let serving = tokio::spawn(iam::serve(iam, listener, Arc::new(tls), stop.clone()));
    notify("READY=1");
    tracing::info!(listen = %args.listen, "k8shost iam-server is ready");
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    notify("STOPPING=1");
    stop.cancel();
    serving.await.context("the listener")
}
