//! `k8shost fiberlb`: the load balancer alone, by its gRPC API.
use crate::service_alone::{ServiceArgs, until_told_to_end};
use anyhow::{Context, Result};
use clock::{Clock, SystemClock};
use fiberlb::{AddressPool, NodeSettings, ServiceSettings};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::TcpListener;

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
    #[command(flatten)]
    service: ServiceArgs,
}

pub fn main(args: FiberlbArgs) -> Result<()> {
    telemetry::init();
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run(args))
}

async fn run(args: FiberlbArgs) -> Result<()> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let pool = AddressPool::parse(&args.external_ip_pool).context("external-ip-pool")?;
    let verifier = args.service.verifier(clock.clone())?;
    let tls = args.service.tls("fiberlb", &args.data_dir, clock.clone())?;
    let listener = TcpListener::bind(args.listen).await.with_context(|| format!("listening on {}", args.listen))?;
    let node_address = match crate::node::address() {
        IpAddr::V4(address) => address,
        IpAddr::V6(_) => Ipv4Addr::LOCALHOST,
    };
    let settings = ServiceSettings { data_dir: args.data_dir.clone(), node: NodeSettings::new("fiberlb", node_address, pool) };
    let serving = fiberlb::serve(settings, listener, Arc::new(tls), Arc::new(verifier), clock, until_told_to_end()?);
    tracing::info!(address = %args.listen, "fiberlb is ready");
    serving.await?;
    tracing::info!("fiberlb has stopped");
    Ok(())
}
