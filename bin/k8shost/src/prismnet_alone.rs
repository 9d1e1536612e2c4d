//! `k8shost prismnet`: logical switches alone, by the gRPC API.
use crate::service_alone::{ServiceArgs, until_told_to_end};
use anyhow::{Context, Result, ensure};
use clock::{Clock, SystemClock};
use ipnet::Ipv4Net;
use prismnet::switching::{Keeper, Switching, SwitchingSettings};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::TcpListener;
use tonic::service::Routes;

#[derive(clap::Args)]
pub struct PrismnetArgs {
    /// Where switches, ports and, unless given, certificates are kept
    #[arg(long, value_name = "DIRECTORY", default_value = "/var/lib/k8shost/prismnet")]
    data_dir: PathBuf,
    /// Address and port of the gRPC API
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:5000")]
    listen: SocketAddr,
    /// The addresses of all switches; the first is the gateway of them all
    #[arg(long, value_name = "RANGE", default_value = "10.244.0.0/16")]
    cidr: Ipv4Net,
    /// How long the prefix of a switch is whose subnet nobody says
    #[arg(long, value_name = "NUMBER", default_value_t = 24, value_parser = clap::value_parser!(u8).range(16..=29))]
    switch_prefix: u8,
    /// Whom ports are told to ask for names
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    dns_server: Vec<Ipv4Addr>,
    /// The MTU of ports [default: that of the uplink]
    #[arg(long, value_name = "BYTES")]
    mtu: Option<u32>,
    #[command(flatten)]
    service: ServiceArgs,
}

pub fn main(args: PrismnetArgs) -> Result<()> {
    telemetry::init();
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run(args))
}

async fn run(args: PrismnetArgs) -> Result<()> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let (range, prefix) = (args.cidr.trunc(), args.switch_prefix);
    ensure!(range.prefix_len() < prefix, "cidr {range} has no room for more than one network of /{prefix}, and the first is the gateway's");
    let verifier = args.service.verifier(clock.clone())?;
    let tls = args.service.tls("prismnet", &args.data_dir, clock)?;
    let settings = SwitchingSettings { data_dir: args.data_dir, range, prefix, dns_servers: args.dns_server, mtu: args.mtu, bridge: "prism0".into() };
    let keeper = tokio::task::spawn_blocking(move || Keeper::open(settings)).await?.context("opening the network")?;
    let listener = TcpListener::bind(args.listen).await.with_context(|| format!("listening on {}", args.listen))?;
    let routes = Routes::new(Switching::new(keeper).service());
    let serving = cloud_api::serve(listener, Arc::new(tls), routes, Arc::new(verifier), until_told_to_end()?);
    tracing::info!(address = %args.listen, "prismnet is ready");
    serving.await;
    // Ports stay, and who is on them.
    tracing::info!("prismnet has stopped");
    Ok(())
}
