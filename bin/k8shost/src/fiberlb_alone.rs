//! `k8shost fiberlb`: the load balancer alone, by its gRPC API.
use anyhow::{Context, Result};
use clock::{Clock, SystemClock};
use cloud_api::JwksVerifier;
use fiberlb::{AddressPool, NodeSettings, ServiceSettings};
use pki::{CertificateAuthority, LeafRequest};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

const VALIDITY: Duration = Duration::from_secs(365 * 24 * 3600);

#[derive(clap::Args)]
pub struct FiberlbArgs {
    /// Where records and, unless given, certificates are kept
    #[arg(long, value_name = "DIRECTORY", default_value = "/var/lib/k8shost/fiberlb")]
    data_dir: PathBuf,
    /// Address and port of the gRPC API
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:7000")]
    listen: SocketAddr,
    /// Addresses to give: 192.0.2.0/24, 192.0.2.10-192.0.2.20
    #[arg(long, value_name = "RANGE", required = true, value_delimiter = ',')]
    external_ip_pool: Vec<String>,
    /// Public keys (JWKS) whose tokens are accepted, as the IAM service publishes them
    #[arg(long, value_name = "FILE")]
    iam_jwks: PathBuf,
    /// Only tokens of this issuer
    #[arg(long, value_name = "NAME")]
    iam_issuer: Option<String>,
    /// Only tokens that name this audience
    #[arg(long, value_name = "NAME")]
    iam_audience: Option<String>,
    /// Certificate (PEM) of the API [default: one of an authority made in the data directory]
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its key
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
}

pub fn main(args: FiberlbArgs) -> Result<()> {
    telemetry::init();
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run(args))
}

async fn run(args: FiberlbArgs) -> Result<()> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let pool = AddressPool::parse(&args.external_ip_pool).context("external-ip-pool")?;
    let keys = std::fs::read(&args.iam_jwks).with_context(|| format!("reading {:?}", args.iam_jwks))?;
    let mut verifier = JwksVerifier::new(&keys, clock.clone()).with_context(|| format!("reading {:?}", args.iam_jwks))?;
    if let Some(issuer) = &args.iam_issuer {
        verifier = verifier.of_issuer(issuer);
    }
    if let Some(audience) = &args.iam_audience {
        verifier = verifier.for_audience(audience);
    }
    let (certificate, key) = certificate(&args, &*clock)?;
    let tls = pki::server_config(&certificate, &key, &[], &[b"h2"])?;
    let listener = TcpListener::bind(args.listen).await.with_context(|| format!("listening on {}", args.listen))?;
    let node_address = match crate::node::address() {
        IpAddr::V4(address) => address,
        IpAddr::V6(_) => Ipv4Addr::LOCALHOST,
    };
    let settings = ServiceSettings { data_dir: args.data_dir.clone(), node: NodeSettings::new("fiberlb", node_address, pool) };
    let stop = CancellationToken::new();
    let serving = fiberlb::serve(settings, listener, Arc::new(tls), Arc::new(verifier), clock, stop.clone());
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        stop.cancel();
    });
    tracing::info!(address = %args.listen, "fiberlb is ready");
    serving.await?;
    tracing::info!("fiberlb has stopped");
    Ok(())
}

fn certificate(args: &FiberlbArgs, clock: &dyn Clock) -> Result<(String, String)> {
    if let (Some(certificate), Some(key)) = (&args.tls_cert, &args.tls_key) {
        let read = |path: &PathBuf| std::fs::read_to_string(path).with_context(|| format!("reading {path:?}"));
        return Ok((read(certificate)?, read(key)?));
    }
    let directory = args.data_dir.join("tls");
    let authority = CertificateAuthority::load_or_create(&directory, "ca", "FiberLB", clock)?;
    let request = LeafRequest {
        common_name: "fiberlb".into(),
        organizations: Vec::new(),
        dns_names: vec!["fiberlb".into(), "localhost".into()],
        ip_addresses: vec![IpAddr::V4(Ipv4Addr::LOCALHOST), crate::node::address()],
        server: true,
        client: false,
        validity: VALIDITY,
    };
    let issued = authority.load_or_issue(&directory, "serving", &request, clock)?;
    Ok((issued.certificate_pem, issued.key_pem))
}
