//! `k8shost flashdns`: zones alone, made by the gRPC API and answered by DNS.
use crate::service_alone::{ServiceArgs, until_told_to_end};
use anyhow::{Context, Result, anyhow};
use clock::{Clock, SystemClock};
use flashdns::{Delegation, DnsSettings, DnsZones, StubDomain, ZoneFile, ZoneRules};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::TcpListener;
use tonic::service::Routes;

#[derive(clap::Args)]
pub struct FlashdnsArgs {
    /// Where zones and, unless given, certificates are kept
    #[arg(long, value_name = "DIRECTORY", default_value = "/var/lib/k8shost/flashdns")]
    data_dir: PathBuf,
    /// Address and port of the gRPC API
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:6000")]
    listen: SocketAddr,
    /// Addresses and ports to answer DNS at, over UDP and TCP
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:53", value_delimiter = ',')]
    dns_listen: Vec<SocketAddr>,
    /// Whose to make zones are a name and all below it, or addresses: shop.example.org=org-1/proj-1, 192.0.2.0/24=org-1
    #[arg(long, value_name = "WHAT=ORG[/PROJECT]", value_delimiter = ',')]
    dns_delegation: Vec<String>,
    /// Who is asked for other names: 192.0.2.53, or for those of a domain: corp.example=192.0.2.54 [default: nobody]
    #[arg(long, value_name = "[DOMAIN=]ADDRESS", value_delimiter = ',')]
    dns_forward: Vec<String>,
    /// Questions one client may ask a second; 0 for as many as it likes
    #[arg(long, value_name = "NUMBER", default_value_t = 10_000)]
    dns_rate_limit: u32,
    #[command(flatten)]
    service: ServiceArgs,
}

pub fn main(args: FlashdnsArgs) -> Result<()> {
    telemetry::init();
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run(args))
}

async fn run(args: FlashdnsArgs) -> Result<()> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let mut settings = DnsSettings::new("", args.dns_listen.iter().copied());
    forward(&mut settings, &args.dns_forward)?;
    settings.queries_per_second = args.dns_rate_limit;
    let rules = ZoneRules { delegations: delegations(&args.dns_delegation)?, cluster_domain: None };
    let verifier = args.service.verifier(clock.clone())?;
    let tls = args.service.tls("flashdns", &args.data_dir, clock)?;
    let file = Arc::new(ZoneFile::open(args.data_dir.join("zones.json")).context("opening the zones")?);
    let zones = file.subscribe();
    let listener = TcpListener::bind(args.listen).await.with_context(|| format!("listening on {}", args.listen))?;
    let stop = until_told_to_end()?;
    let routes = Routes::new(DnsZones::new(file, rules).service());
    let serving = cloud_api::serve(listener, Arc::new(tls), routes, Arc::new(verifier), stop.clone());
    let answering = async {
        let stopped = stop.clone();
        let answered = flashdns::run_alone(settings, zones, async move { stopped.cancelled().await }).await;
        // Without the one nobody is served right by the other.
        stop.cancel();
        answered
    };
    tracing::info!(address = %args.listen, "flashdns is ready");
    let (answered, ()) = tokio::join!(answering, serving);
    answered?;
    tracing::info!("flashdns has stopped");
    Ok(())
}

/// The delegations as settings write them.
pub fn delegations(texts: &[String]) -> Result<Vec<Delegation>> {
    texts.iter().map(|text| Delegation::parse(text).map_err(|why| anyhow!("dns-delegation {text:?}: {why}"))).collect()
}

/// Has others asked for names that are not ours: for those of a domain, or, in place of the upstreams there are, for all.
pub fn forward(settings: &mut DnsSettings, texts: &[String]) -> Result<()> {
    let (stubs, all): (Vec<&String>, Vec<&String>) = texts.iter().partition(|text| text.contains('='));
    let stubs: Result<Vec<_>, _> = stubs.into_iter().map(|text| StubDomain::parse(text)).collect();
    settings.stubs = StubDomain::joined(stubs.context("dns-forward")?);
    let upstreams: Result<Vec<_>> =
        all.into_iter().map(|text| flashdns::name_server(text).with_context(|| format!("dns-forward {text:?}: it is no address"))).collect();
    let upstreams = upstreams?;
    if !upstreams.is_empty() {
        settings.upstreams = upstreams;
    }
    Ok(())
}
